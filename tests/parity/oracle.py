"""The same work done twice, by sdcore and by the diffusers pipeline of the family, and how far apart they are.

Nothing here is taken from sdcore's own tables: which diffusers class a scheduler's short name stands for, and
what its suffix sets, is written down a second time.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
from PIL import Image

from sdcore import Engine
from sdcore.testing import parity
from sdcore.testing.parity import Recorder, Trace, difference
from sdcore.testing.tiny import tiny_folder

MODELS: Mapping[str, tuple[str, str]] = {
    "sd1": ("sd1", "epsilon"),
    "sd2": ("sd2", "epsilon"),
    "sd2-v": ("sd2", "v_prediction"),
    "sdxl": ("sdxl", "epsilon"),
    "refiner": ("refiner", "epsilon"),
}
"""Name to family and prediction type."""

PIPELINES: Mapping[tuple[str, str], str] = {
    ("sd1", "txt2img"): "StableDiffusionPipeline",
    ("sd1", "img2img"): "StableDiffusionImg2ImgPipeline",
    ("sd2", "txt2img"): "StableDiffusionPipeline",
    ("sd2", "img2img"): "StableDiffusionImg2ImgPipeline",
    ("sdxl", "txt2img"): "StableDiffusionXLPipeline",
    ("sdxl", "img2img"): "StableDiffusionXLImg2ImgPipeline",
    ("refiner", "img2img"): "StableDiffusionXLImg2ImgPipeline",
}

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp-3m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 3}),
    "dpmpp-2s": ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    "dpmpp-sde": ("DPMSolverSDEScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "sa-solver": ("SASolverScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "edm-euler": ("EDMEulerScheduler", {}),
    "edm-dpmpp-2m": ("EDMDPMSolverMultistepScheduler", {}),
    "ddim-inverse": ("DDIMInverseScheduler", {}),
}
SUFFIXES: Mapping[str, Mapping[str, Any]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace"},
    "zsnr": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
}
# Classes that take the setting and make nothing of it.
DEAF = {
    ("lcm", "trailing"), ("lcm", "leading"), ("lcm", "linspace"),
    ("tcd", "trailing"), ("tcd", "leading"), ("tcd", "linspace"), ("ddim-inverse", "linspace"),
}  # fmt: skip
SEEDS = (5, 2**40 + 1, 7)
SIZE = 32
PROMPT, NEGATIVE = "a red cat, photo of the house", "blue dog"
TOLERANCE = 1e-5


def variants() -> list[str]:
    """Every name with every suffix that its class knows, without the plain names."""
    found = []
    for name, (class_name, _) in SCHEDULERS.items():
        known = inspect.signature(getattr(diffusers, class_name).__init__).parameters
        found += [
            f"{name}-{suffix}"
            for suffix, fields in SUFFIXES.items()
            if all(key in known for key in fields) and (name, suffix) not in DEAF
        ]
    return found


def applies(model: str, task: str, scheduler: str) -> bool:
    """Whether both sides can do it, and it means something."""
    if scheduler.startswith("ddim-inverse") and task == "img2img":
        return False  # it walks from a picture to its noise, and has no add_noise for a start in between
    # Noise without any picture in it has no epsilon to predict.
    return not scheduler.endswith("-zsnr") or MODELS[model][1] == "v_prediction"


_made: dict[tuple[Any, ...], Any] = {}


def diffusers_scheduler(pipe: Any, name: str | None, seeds: Sequence[int]) -> Any:
    """A scheduler as a user of diffusers makes it from the pipeline's own; some classes take long, so as a copy."""
    key = (type(pipe.scheduler), repr(pipe.scheduler.config), name, tuple(seeds))
    if key not in _made:
        _made[key] = _make(pipe, name, seeds)
    return copy.deepcopy(_made[key])


def _make(pipe: Any, name: str | None, seeds: Sequence[int]) -> Any:
    if name is None:
        return type(pipe.scheduler).from_config(pipe.scheduler.config)
    base, suffix = (name, "") if name in SCHEDULERS else name.rsplit("-", 1)
    class_name, fields = SCHEDULERS[base]
    fields = {**fields, **SUFFIXES.get(suffix, {})}
    if base == "dpmpp-sde":
        fields["noise_sampler_seed"] = list(seeds)
    return getattr(diffusers, class_name).from_config(pipe.scheduler.config, **fields)


@dataclass
class Both:
    """One model, loaded by both sides from one folder."""

    name: str
    engine: Engine
    pipes: dict[str, Any]

    def sdcore(self, **fields: Any) -> Trace:
        """Run sdcore, keeping the latents of every step."""
        return parity.ours(self.engine, **fields)

    def diffusers(self, task: str, scheduler: str | None, seeds: Sequence[int], **arguments: Any) -> Trace:
        """Run the pipeline of diffusers, keeping the latents of every step."""
        pipe = self.pipes[task]
        return parity.theirs(pipe, seeds, diffusers_scheduler(pipe, scheduler, seeds), **arguments)

    def pair(
        self,
        task: str,
        scheduler: str | None,
        seeds: Sequence[int] = SEEDS[:1],
        *,
        pictures: bool = False,
        **fields: Any,
    ) -> tuple[Trace, Trace]:
        """Both sides on the same work, ``fields`` in the spelling of diffusers; decoded only for ``pictures``."""
        arguments = _arguments(task, fields)
        output = "pil" if pictures else "latent"
        ours = self.ours(task, scheduler, seeds, pictures=pictures, **fields)
        return ours, self.diffusers(task, scheduler, seeds, output_type=output, **arguments)

    def ours(
        self,
        task: str,
        scheduler: str | None,
        seeds: Sequence[int] = SEEDS[:1],
        *,
        pictures: bool = False,
        **fields: Any,
    ) -> Trace:
        """The half of :meth:`pair` that is sdcore's."""
        output = "image" if pictures else "latent"
        arguments = _arguments(task, fields)
        return self.sdcore(scheduler=scheduler, seeds=seeds, batch_size=len(seeds), output=output, **arguments)


def _arguments(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and what is not: prompts, steps, size or picture."""
    fields = {"prompt": PROMPT, "negative_prompt": NEGATIVE, **given}
    if "timesteps" not in fields and "sigmas" not in fields:
        fields.setdefault("num_inference_steps", 4)
    if task == "txt2img":
        return {"height": SIZE, "width": SIZE, **fields}
    fields.setdefault("image", init_image())
    if "denoising_start" not in fields:
        fields.setdefault("strength", 0.6)
    return fields


@functools.cache
def load(name: str) -> Both:
    """A model on both sides, each with weights of its own from the same files."""
    return load_with(name)


def load_with(name: str, **components: Any) -> Both:
    """The same with other components (modules), shared by both sides."""
    family, prediction_type = MODELS[name]
    folder = tiny_folder(family, prediction_type=prediction_type)
    engine = Engine.load(folder, plugins=[Recorder], device="cpu", dtype="float32", components=components)
    pipes: dict[str, Any] = {}
    for task in ("txt2img", "img2img"):
        if (family, task) in PIPELINES:
            kind = getattr(diffusers, PIPELINES[family, task])
            shared = next(iter(pipes.values())).components if pipes else components
            pipes[task] = kind.from_pretrained(folder, **shared)
            pipes[task].set_progress_bar_config(disable=True)
    return Both(name, engine, pipes)


@functools.cache
def init_image(width: int = SIZE, height: int = SIZE) -> Image.Image:
    """A picture with edges and gradients."""
    pixels = Image.new("RGB", (width, height))
    for x in range(width):
        for y in range(height):
            pixels.putpixel((x, y), (x * 255 // width, y * 255 // height, 255 * ((x // 5 + y // 7) % 2)))
    return pixels


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    model: str
    task: str
    scheduler: str
    guidance: float = 7.5
    rescale: float = 0.0
    count: int = 1

    def __str__(self) -> str:
        guidance = f"guidance{self.guidance:g}" + (f"-rescale{self.rescale:g}" if self.rescale else "")
        return f"{self.model}-{self.task}-{self.scheduler}-{guidance}-x{self.count}"

    def run(self) -> float:
        """How far apart sdcore and diffusers are."""
        fields: dict[str, Any] = {"guidance_scale": self.guidance}
        if self.rescale:
            fields["guidance_rescale"] = self.rescale
        fields["num_inference_steps"] = steps_for(self.task, self.scheduler)
        return difference(*load(self.model).pair(self.task, self.scheduler, SEEDS[: self.count], **fields))


def steps_for(task: str, scheduler: str) -> int:
    """As few as show the scheduler's whole order: after strength 0.6, where there is a picture."""
    picture = task == "img2img"
    if scheduler.startswith(("pndm", "lms", "dpmpp-3m", "deis", "unipc", "sa-solver")):  # they remember up to three
        return 7 if picture else 4
    if scheduler.startswith(("dpmpp-2m", "dpmpp-2s", "edm-dpmpp-2m")):  # one
        return 5 if picture else 3
    return 4 if picture else 2


def settings(model: str, task: str) -> list[tuple[float, float, int]]:
    """(guidance, rescale, pictures) that the pipeline of diffusers has."""
    kind = getattr(diffusers, PIPELINES[MODELS[model][0], task])
    rescales = "guidance_rescale" in inspect.signature(kind.__call__).parameters
    guidances = [(1.0, 0.0), (7.5, 0.0)] + ([(7.5, 0.7)] if rescales else [])
    return [(guidance, rescale, count) for guidance, rescale in guidances for count in (1, len(SEEDS))]


def tasks() -> Iterator[tuple[str, str]]:
    """(model, task) of every pipeline class that diffusers has."""
    for model, (family, _) in MODELS.items():
        for task in ("txt2img", "img2img"):
            if (family, task) in PIPELINES:
                yield model, task


def every_cell() -> Iterator[Cell]:
    """The complete cross product."""
    for model, task in tasks():
        for scheduler in [*SCHEDULERS, *variants()]:
            if applies(model, task, scheduler):
                for guidance, rescale, count in settings(model, task):
                    yield Cell(model, task, scheduler, guidance, rescale, count)


def chosen_cells() -> Iterator[Cell]:
    """Every model, task and scheduler, with the settings taken in turn; the variants on SD1 and SD2 in turn.

    Of DPM2, which takes diffusers 0.4 seconds to make, one variant each.
    """
    for number, (model, task) in enumerate(tasks()):
        choices = settings(model, task)
        for turn, scheduler in enumerate(SCHEDULERS):
            if applies(model, task, scheduler):
                guidance, rescale, count = choices[(turn + number) % len(choices)]
                yield Cell(model, task, scheduler, guidance, rescale, count)
    places = [("sd1", "txt2img"), ("sd2-v", "img2img"), ("sd2-v", "txt2img"), ("sd1", "img2img")]
    for turn, scheduler in enumerate(variants()):
        if scheduler.startswith("dpm2") and not scheduler.endswith(("dpm2-karras", "a-beta")):
            continue
        model, task = next(place for place in places[turn % 4 :] + places if applies(*place, scheduler))
        choices = settings(model, task)
        guidance, rescale, count = choices[turn // 4 % len(choices)]
        yield Cell(model, task, scheduler, guidance, rescale, count)
