"""It puts its own in the place of what others have made."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Draws houses."""

    name = "bad"

    @hookimpl
    def text(self, run: Run) -> Contributions:
        return ports.prompt(lambda prompt: prompt.replace(positive="the blue house"))
