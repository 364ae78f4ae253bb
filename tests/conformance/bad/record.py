"""Its file is not marked as one: the record names a path, and not the file's contents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.testing import Case, PluginConformance, Setting


class Table(Options):
    path: str = Field(description="a file with a number in it")


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"
    options = Table

    @hookimpl
    def step(self, run: Run) -> Contributions:
        (used,) = run.uses(Table)
        number = float(Path(used.path).read_text())
        return ports.latents_out(lambda step, latents: latents + number)


class BadConformance(PluginConformance):
    plugin = "bad"

    def cases(self, setting: Setting) -> Iterable[Case]:
        yield Case({"path": str(setting.file("number.txt", lambda path: path.write_text("0.1")))})
