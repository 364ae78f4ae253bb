"""The cells of the composition table: what is combined, how a user writes it, which class of diffusers does the same.

Adding a plugin to the table is one line: in `OTHERS` for one that goes with everything, or in an axis.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sdcore import Use
from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter
from sdcore.testing.tiny_lora import tiny_lora

SIZE, GROWN = 32, 16
STEPS = 3
SEED = 11
PROMPT, NEGATIVE = "a red cat, photo of the house", "blue dog"
FAMILIES = ("sd1", "sd2", "sdxl")
Uses = Callable[[str, str], Sequence[Use]]
"""From family and task to entries of `use`."""


@functools.cache
def picture() -> Image.Image:
    """The input picture: a gradient with edges in it."""
    image = Image.radial_gradient("L").resize((SIZE, SIZE)).convert("RGB")
    ImageDraw.Draw(image).rectangle((8, 4, 20, 15), fill=(200, 40, 60))
    return image


@functools.cache
def mask() -> Image.Image:
    """The right half is redrawn."""
    image = Image.new("L", (SIZE, SIZE))
    image.paste(255, (SIZE // 2, 0, SIZE, SIZE))
    return image


@functools.cache
def control(name: str, width: int = SIZE) -> Image.Image:
    """A control picture; it belongs to the whole canvas, so for outpainting it is as wide as the result."""
    image = Image.new("RGB", (width, SIZE))
    draw = ImageDraw.Draw(image)
    if name == "lines":
        draw.line((2, 2, 29, 20), fill="white", width=2)
        draw.line((4, 28, 28, 6), fill="white")
    else:
        draw.ellipse((6, 6, 26, 26), outline="white", fill=(90, 90, 90))
    return image


@functools.cache
def lora_file(family: str, seed: int) -> Path:
    """A LoRA for the U-Net and the text encoders of a family."""
    top = Path(tempfile.mkdtemp(prefix="sdcore-composition-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    return tiny_lora(top / f"{family}-{seed}.safetensors", family, layout="kohya", seed=seed, scale=0.3)


def _control(model: Path, image: str, task: str, **options: Any) -> Use:
    picture = control(image, SIZE + GROWN if task == "outpaint" else SIZE)
    return Use(plugin="controlnet", options={"model": str(model), "image": picture, **options})


def _lora(family: str, seed: int, **options: Any) -> Use:
    return Use(plugin="lora", options={"path": str(lora_file(family, seed)), **options})


def _one_net(family: str, task: str) -> Use:
    return _control(tiny_controlnet(family, seed=1), "lines", task, scale=0.8)


def _adapter(family: str, task: str) -> Use:
    return _control(tiny_t2i_adapter(family, seed=3), "disc", task, scale=0.7)


TASKS: Mapping[str, Callable[[], tuple[dict[str, Any], Sequence[Use]]]] = {
    "txt2img": lambda: ({"height": SIZE, "width": SIZE}, ()),
    "img2img": lambda: ({"image": picture(), "strength": 0.7}, ()),
    "inpaint": lambda: ({"image": picture(), "strength": 0.7}, [Use(plugin="inpaint", options={"mask": mask()})]),
    "outpaint": lambda: ({"image": picture(), "strength": 1.0}, [Use(plugin="outpaint", options={"right": GROWN})]),
}
CONTROLS: Mapping[str, Uses] = {
    "no control": lambda family, task: (),
    "ControlNet": lambda family, task: [_one_net(family, task)],
    "2 ControlNets": lambda family, task: [
        _one_net(family, task),
        _control(tiny_controlnet(family, seed=2), "disc", task, scale=0.5, start=0.0, end=0.7),
    ],
    "T2I-Adapter": lambda family, task: [_adapter(family, task)],
    "ControlNet + T2I-Adapter": lambda family, task: [_one_net(family, task), _adapter(family, task)],
}
LORAS: Mapping[str, Uses] = {
    "no LoRA": lambda family, task: (),
    "LoRA": lambda family, task: [_lora(family, 1, weight=0.8)],
    "2 LoRAs, one scheduled": lambda family, task: [
        _lora(family, 1, weight=0.8),
        _lora(family, 2, weight=[[0.0, 0.2], [1.0, 1.0]]),
    ],
}
OTHERS: Mapping[str, Uses] = {
    "template": lambda family, task: [Use(plugin="template", options={"words": "3d style", "warmth": 0.8})],
}
"""Plugins that go with everything: each with every task and family, a ControlNet, a T2I-Adapter and two LoRAs."""


@dataclass(frozen=True)
class Cell:
    """One combination."""

    family: str
    task: str
    control: str = "no control"
    lora: str = "no LoRA"
    other: str = ""

    def __str__(self) -> str:
        return "-".join(part.replace(" ", "_") for part in (self.family, *self.parts))

    @property
    def parts(self) -> tuple[str, ...]:
        """The labels of its axes but for the family."""
        return tuple(part for part in (self.task, self.control, self.lora, self.other) if part)

    @property
    def request(self) -> dict[str, Any]:
        """The fields of the request, with the plugins in the order in which the axes stand here."""
        fields, use = TASKS[self.task]()
        used = [*use, *CONTROLS[self.control](self.family, self.task), *LORAS[self.lora](self.family, self.task)]
        used += OTHERS[self.other](self.family, self.task) if self.other else ()
        common = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "steps": STEPS, "guidance_scale": 5.0}
        # PNDM, SD1's own, visits a step twice, which the older classes of diffusers do not report.
        common |= {"scheduler": "ddim"} if self.family == "sd1" else {}
        return {**common, **fields, "use": used}

    @property
    def peer(self) -> str | None:
        """The pipeline class of diffusers that does the same, or None if there is none."""
        if self.other or self.lora == "2 LoRAs, one scheduled":
            return None
        name = PEERS.get((self.task, self.control), {}).get("sdxl" if self.family == "sdxl" else "sd")
        return None if (self.lora != "no LoRA" and name in WITHOUT_LORA) else name

    def without(self) -> Iterator[Cell]:
        """The same with one of its features left out; each must make a difference."""
        if self.control != "no control":
            yield Cell(self.family, self.task, "no control", self.lora, self.other)
        if self.lora != "no LoRA":
            yield Cell(self.family, self.task, self.control, "no LoRA", self.other)
        if self.other:
            yield Cell(self.family, self.task, self.control, self.lora)


def _both(sd: str, sdxl: str) -> dict[str, str]:
    return {"sd": f"StableDiffusion{sd}Pipeline", "sdxl": f"StableDiffusionXL{sdxl}Pipeline"}


PEERS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("txt2img", "no control"): _both("", ""),
    ("txt2img", "ControlNet"): _both("ControlNet", "ControlNet"),
    ("txt2img", "2 ControlNets"): _both("ControlNet", "ControlNet"),
    ("txt2img", "T2I-Adapter"): _both("Adapter", "Adapter"),
    ("img2img", "no control"): _both("Img2Img", "Img2Img"),
    ("img2img", "ControlNet"): _both("ControlNetImg2Img", "ControlNetImg2Img"),
    ("img2img", "2 ControlNets"): _both("ControlNetImg2Img", "ControlNetImg2Img"),
    ("inpaint", "no control"): _both("Inpaint", "Inpaint"),
    ("inpaint", "ControlNet"): _both("ControlNetInpaint", "ControlNetInpaint"),
    ("inpaint", "2 ControlNets"): _both("ControlNetInpaint", "ControlNetInpaint"),
}
"""(task, control) to the classes of diffusers 0.42.1 for SD1 and SD2, and for SDXL."""
WITHOUT_LORA = frozenset({"StableDiffusionAdapterPipeline"})
"""Classes that cannot load a LoRA."""

CELLS: tuple[Cell, ...] = (
    *(Cell(f, task, control, lora) for f in FAMILIES for task in TASKS for control in CONTROLS for lora in LORAS),
    *(
        Cell(family, task, "ControlNet + T2I-Adapter", "2 LoRAs, one scheduled", other)
        for family in FAMILIES
        for task in TASKS
        for other in OTHERS
    ),
)
