"""A plugin with a wrong signature is found by mypy, before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = """
from __future__ import annotations

from PIL.Image import Image
from torch import Tensor

from sdcore import Change, Contribution, Contributions, Options, Plugin, Problem, Run, StateKey, Step, WeightPatch
from sdcore import hookimpl, ports
from sdcore.stages import AttentionArgs, Picture, StepArgs
from collections.abc import Callable, Iterable, Iterator


class Glow(Options):
    strength: float = 0.5


SEEN: StateKey[int] = StateKey("seen")


class GlowPlugin(Plugin):
    name = "glow"
    options = Glow

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change] | None:
        return [Change(steps=3)]

    @hookimpl
    def weights(self, run: Run) -> Contributions:
        return ports.weights(WeightPatch("unet", "conv_out.bias", lambda weight: weight * 2))

    @hookimpl
    def step(self, run: Run) -> Iterator[Contribution]:
        (glow,) = run.uses(Glow)
        run.state[SEEN] = 1

        def brighten(step: Step, latents: Tensor) -> Tensor:
            return latents * glow.strength

        def around(args: StepArgs, call_next: Callable[[StepArgs], Tensor]) -> Tensor:
            return call_next(args.replace(latents=args.latents * 2))

        yield ports.latents_out(brighten)
        yield ports.whole_step(around)

    @hookimpl
    def unet(self, run: Run) -> Contributions:
        def look(args: AttentionArgs) -> AttentionArgs | None:
            return None

        return ports.attention_qkv(look, sites=run.find_sites("cross"))

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        def tint(picture: Picture, image: Image) -> Image | None:
            return image

        return [ports.image(tint, phase="restore"), ports.image(lambda picture, image: None)]
"""
WRONG = """
from __future__ import annotations

from PIL.Image import Image
from torch import Tensor

from sdcore import Contributions, Plugin, Run, StateKey, hookimpl, ports
from sdcore.stages import Picture

SEEN: StateKey[int] = StateKey("seen")


class WrongPlugin(Plugin):
    name = "wrong"

    @hookimpl
    def weights(self, run: int) -> Contributions:  # wrong hook argument
        return None

    @hookimpl
    def text(self) -> Contributions:  # missing hook argument
        return None

    @hookimpl
    def latents(self, run: Run) -> str:  # wrong hook result
        return ""

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def few(latents: Tensor) -> Tensor:
            return latents

        run.state[SEEN] = "text"  # wrong state
        return ports.latents_out(few)  # wrong stage parameters

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        def tint(picture: Picture, image: Image) -> Image:
            return image

        def name(picture: Picture, image: Image) -> str:
            return ""

        return [
            ports.image(tint, fase="restore"),  # wrong argument
            ports.image(name),  # wrong stage result
        ]
"""


LARGE = "torch.*,diffusers.*,transformers.*,numpy.*,scipy.*,safetensors.*,huggingface_hub.*"


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """mypy --strict on both files, as an author runs it beside an installed sdcore."""
    folder: Path = tmp_path_factory.mktemp("plugins")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    # Reading torch takes mypy a minute; without it tensors are Any, and everything else is still checked.
    (folder / "mypy.ini").write_text(f"[mypy]\n[mypy-{LARGE}]\nfollow_imports = skip\nignore_missing_imports = true\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--no-error-summary"]
    command += ["--cache-dir", str(folder / "cache"), "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "MYPYPATH": ""})
    lines = done.stdout.splitlines()
    return {name: "\n".join(line for line in lines if line.startswith(name)) for name in ("right.py", "wrong.py")}


def test_a_right_plugin_passes(mypy: dict[str, str]) -> None:
    assert mypy["right.py"] == ""


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        ("wrong hook argument", "override"),
        ("missing hook argument", "override"),
        ("wrong hook result", "override"),
        ("wrong state", "misc"),
        ("wrong stage parameters", "arg-type"),
        ("wrong stage result", "arg-type"),
        ("wrong argument", "call-arg"),
    ],
)
def test_a_wrong_plugin_is_told_line_by_line(mypy: dict[str, str], comment: str, code: str) -> None:
    line = next(number for number, text in enumerate(WRONG.splitlines(), start=1) if comment in text)
    found = [text for text in mypy["wrong.py"].splitlines() if text.startswith(f"wrong.py:{line}: error")]
    assert any(f"[{code}]" in text for text in found), mypy["wrong.py"]
