"""The cells that a pipeline of diffusers has a class for, done by it."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import torch

from sdcore.quiet import quiet
from sdcore.testing.parity import Trace, theirs
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

from .matrix import NEGATIVE, PROMPT, SEED, SIZE, STEPS, Cell, control, lora_file, mask, picture


@quiet()
def _read(family: str) -> dict[str, Any]:
    kind = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
    return dict(kind.from_pretrained(tiny_folder(family)).components)


_components = functools.cache(_read)


@functools.cache
def _controlnet(family: str, seed: int) -> Any:
    return diffusers.ControlNetModel.from_pretrained(tiny_controlnet(family, seed=seed))


@quiet()
def by_diffusers(cell: Cell) -> Trace:
    """What the pipeline class of a cell makes, with the same numbers that `Cell.request` names."""
    assert cell.peer is not None
    extra: dict[str, Any] = {}
    arguments: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": 5.0}
    arguments["num_inference_steps"] = STEPS
    key = "image" if cell.task == "txt2img" else "control_image"
    if cell.task == "txt2img":
        arguments |= {"height": SIZE, "width": SIZE}
    else:
        arguments |= {"image": picture(), "strength": 0.7}
    if cell.task == "inpaint":  # without a size its classes take that of the model
        arguments |= {"mask_image": mask(), "height": SIZE, "width": SIZE}
    if cell.control == "ControlNet":
        extra["controlnet"] = _controlnet(cell.family, 1)
        arguments |= {key: control("lines"), "controlnet_conditioning_scale": 0.8}
    elif cell.control == "2 ControlNets":
        extra["controlnet"] = [_controlnet(cell.family, 1), _controlnet(cell.family, 2)]
        arguments |= {key: [control("lines"), control("disc")], "controlnet_conditioning_scale": [0.8, 0.5]}
        arguments |= {"control_guidance_start": [0.0, 0.0], "control_guidance_end": [1.0, 0.7]}
    elif cell.control == "T2I-Adapter":
        extra["adapter"] = diffusers.T2IAdapter.from_pretrained(tiny_t2i_adapter(cell.family, seed=3))
        arguments |= {"image": control("disc"), "adapter_conditioning_scale": 0.7}
    kind = getattr(diffusers, cell.peer)
    # A LoRA changes them, so it gets its own. (Copies in memory round otherwise than what is read from a file.)
    parts = _read(cell.family) if cell.lora == "LoRA" else _components(cell.family)
    found = {name: part for name, part in parts.items() if name in _taken(kind)}
    with torch.no_grad():
        pipe = kind(**found, **extra, **({} if cell.family == "sdxl" else {"requires_safety_checker": False}))
        if cell.lora == "LoRA":
            pipe.load_lora_weights(str(lora_file(cell.family, 1)), adapter_name="one")
            pipe.set_adapters(["one"], [0.8])
            # Merged, as here: beside the layers the rounding is another, which a small random net can blow up.
            pipe.fuse_lora()
        ddim = diffusers.DDIMScheduler.from_config(pipe.scheduler.config) if cell.family == "sd1" else None
        return theirs(pipe, [SEED], ddim, **arguments)


def _taken(kind: Any) -> set[str]:
    import inspect

    return set(inspect.signature(kind.__init__).parameters)
