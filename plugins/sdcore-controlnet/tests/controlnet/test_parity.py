"""Latents of every step, against the pipelines of diffusers that have a ControlNet or a T2I-Adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, MultiAdapter
from PIL import Image, ImageDraw
from sdcore_controlnet import ControlNet

from sdcore.testing.parity import difference, ours, theirs
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

from .kit import adapter_module, control_module, engine_for, picture, pipe_for

TOLERANCE = 1e-5
FAMILIES = {"sd1": ("sd1", "epsilon"), "sd2-v": ("sd2", "v_prediction"), "sdxl": ("sdxl", "epsilon")}
COMMON: dict[str, Any] = {"prompt": "a red cat", "negative_prompt": "blue dog", "num_inference_steps": 4}


def ddim(pipe: Any) -> Any:
    """Adapter pipelines report no step of PNDM's warm-up, so that it cannot be compared."""
    return DDIMScheduler.from_config(pipe.scheduler.config)


def _pipe(family: str, task: str, nets: Any) -> Any:
    name, prediction = FAMILIES[family]
    middle = "XL" if name == "sdxl" else ""
    folder = tiny_folder(name, prediction_type=prediction)
    return pipe_for(f"StableDiffusion{middle}{task}Pipeline", folder, nets)


def _control_pipe(family: str, task: str, seeds: tuple[int, ...], **settings: Any) -> Any:
    nets = tuple(control_module(tiny_controlnet(FAMILIES[family][0], seed, **settings)) for seed in seeds)
    return _pipe(family, f"ControlNet{task}", (("controlnet", nets if len(nets) > 1 else nets[0]),))


def _uses(family: str, seeds: tuple[int, ...], scales: tuple[float, ...], **options: Any) -> list[ControlNet]:
    made = []
    for place, (seed, scale) in enumerate(zip(seeds, scales, strict=True)):
        own = {key: value[place] if isinstance(value, list) else value for key, value in options.items()}
        settings = own.pop("settings", {})
        folder = tiny_controlnet(FAMILIES[family][0], seed, **settings)
        made.append(ControlNet(model=folder, image=picture(10 + seed), scale=scale, **own))
    return made


CELLS: list[tuple[str, str, int, dict[str, Any], dict[str, Any]]] = []
for _family in FAMILIES:
    CELLS += [
        (_family, "one", 1, {}, {}),
        (_family, "two", 2, {}, {}),
        (_family, "guess", 1, {"guess_mode": True}, {"mode": "control"}),
    ]
CELLS += [
    ("sd1", "two-guess", 2, {"guess_mode": True}, {"mode": "control"}),
    ("sdxl", "two-guess", 2, {"guess_mode": True}, {"mode": "control"}),
    ("sd1", "range", 1, {"control_guidance_start": 0.25, "control_guidance_end": 0.75}, {"start": 0.25, "end": 0.75}),
    (
        "sdxl", "two-ranges", 2, {"control_guidance_start": [0.0, 0.3], "control_guidance_end": [0.5, 1.0]},
        {"start": [0.0, 0.3], "end": [0.5, 1.0]},
    ),
    ("sd1", "no-guidance", 1, {"guidance_scale": 1.0}, {}),
    ("sd1", "no-guidance-guess", 1, {"guidance_scale": 1.0, "guess_mode": True}, {"mode": "control"}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "name", "nets", "arguments", "options"), CELLS, ids=lambda v: str(v)[:12])
@pytest.mark.parametrize("count", [1, 2])
def test_text_to_picture(
    family: str, name: str, nets: int, arguments: dict[str, Any], options: dict[str, Any], count: int
) -> None:
    seeds, scales = (1, 2)[:nets], (0.8, 1.3)[:nets]
    pictures = tuple(range(5, 5 + count))
    pipe = _control_pipe(family, "", seeds)
    images = [picture(10 + seed) for seed in seeds]
    guidance = {"guidance_scale": arguments.get("guidance_scale", 7.5)}
    other = theirs(
        pipe,
        pictures,
        image=images if nets > 1 else images[0],
        controlnet_conditioning_scale=list(scales) if nets > 1 else scales[0],
        height=32,
        width=32,
        **COMMON,
        **{**arguments, **guidance},
    )
    mine = ours(
        engine_for(*FAMILIES[family]),
        seeds=pictures,
        height=32,
        width=32,
        use=_uses(family, seeds, scales, **options),
        **COMMON,
        **guidance,
    )
    assert difference(mine, other) <= TOLERANCE
    plain = ours(engine_for(*FAMILIES[family]), seeds=pictures, height=32, width=32, **COMMON, **guidance)
    assert difference(plain, other) > 0.01


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("nets", [1, 2])
def test_picture_to_picture(family: str, nets: int) -> None:
    seeds, scales = (1, 2)[:nets], (0.8, 1.3)[:nets]
    images = [picture(10 + seed) for seed in seeds]
    task: dict[str, Any] = {**COMMON, "image": picture(3), "strength": 0.7, "guidance_scale": 7.5}
    other = theirs(
        _control_pipe(family, "Img2Img", seeds),
        (5, 6),
        control_image=images if nets > 1 else images[0],
        controlnet_conditioning_scale=list(scales) if nets > 1 else scales[0],
        **task,
    )
    mine = ours(engine_for(*FAMILIES[family]), seeds=(5, 6), use=_uses(family, seeds, scales), **task)
    assert difference(mine, other) <= TOLERANCE


def _mask() -> Image.Image:
    mask = Image.new("L", (32, 32))
    ImageDraw.Draw(mask).rectangle((8, 8, 23, 27), fill=255)
    return mask


@pytest.mark.parametrize("family", FAMILIES)
def test_inpainting(family: str) -> None:
    inpaint = pytest.importorskip("sdcore_inpaint")
    task: dict[str, Any] = {**COMMON, "image": picture(3), "strength": 0.8, "guidance_scale": 7.5}
    other = theirs(
        _control_pipe(family, "Inpaint", (1,)),
        (5,),
        mask_image=_mask(),
        control_image=picture(11),
        controlnet_conditioning_scale=0.8,
        **task,
    )
    use = [*_uses(family, (1,), (0.8,)), inpaint.Inpaint(mask=_mask())]
    mine = ours(engine_for(*FAMILIES[family]), seeds=(5,), use=use, **task)
    assert difference(mine, other) <= TOLERANCE


def test_inpainting_with_a_net_that_is_told_the_hole() -> None:
    inpaint = pytest.importorskip("sdcore_inpaint")
    import numpy as np

    pixels = np.array(picture(3)).astype(np.float32) / 255.0
    pixels[np.array(_mask()) > 127] = -1.0
    condition = torch.from_numpy(pixels[None].transpose(0, 3, 1, 2).copy())
    task: dict[str, Any] = {**COMMON, "image": picture(3), "strength": 1.0, "guidance_scale": 7.5}
    pipe = _control_pipe("sd1", "Inpaint", (1,))
    scale = {"controlnet_conditioning_scale": 1.0}  # of inpainting pipelines the default is 0.5
    other = theirs(pipe, (5,), mask_image=_mask(), control_image=condition, **scale, **task)
    control = ControlNet(model=tiny_controlnet("sd1", 1), preprocess="inpaint", inpaint_mask=_mask())
    mine = ours(engine_for("sd1"), seeds=(5,), use=[control, inpaint.Inpaint(mask=_mask())], **task)
    assert difference(mine, other) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("nets", [1, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_adapters(family: str, nets: int, count: int) -> None:
    seeds, scales = (1, 2)[:nets], (0.8, 1.3)[:nets]
    folders = [tiny_t2i_adapter(FAMILIES[family][0], seed) for seed in seeds]
    modules: Any = tuple(adapter_module(folder) for folder in folders)
    if nets > 1:
        modules = (MultiAdapter(list(modules)),)
    images = [picture(10 + seed) for seed in seeds]
    pipe = _pipe(family, "Adapter", (("adapter", modules[0]),))
    size = {"height": 32, "width": 32, "guidance_scale": 7.5}
    pictures = tuple(range(5, 5 + count))
    other = theirs(
        pipe,
        pictures,
        image=images if nets > 1 else images[0],
        adapter_conditioning_scale=list(scales) if nets > 1 else scales[0],
        scheduler=ddim(pipe),
        **COMMON,
        **size,
    )
    use = [
        ControlNet(model=folder, image=image, scale=scale)
        for folder, image, scale in zip(folders, images, scales, strict=True)
    ]
    mine = ours(engine_for(*FAMILIES[family]), seeds=pictures, use=use, scheduler="ddim", **COMMON, **size)
    assert difference(mine, other) <= TOLERANCE


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.9])
def test_an_adapter_ends_where_diffusers_ends_it(factor: float) -> None:
    folder = tiny_t2i_adapter("sdxl", 1)
    pipe = _pipe("sdxl", "Adapter", (("adapter", adapter_module(folder)),))
    size = {"height": 32, "width": 32, "guidance_scale": 7.5}
    where = {"image": picture(11), "scheduler": ddim(pipe)}
    other = theirs(pipe, (5,), **where, adapter_conditioning_factor=factor, **COMMON, **size)
    use = [ControlNet(model=folder, image=picture(11), end=factor)]
    mine = ours(engine_for("sdxl"), seeds=(5,), use=use, scheduler="ddim", **COMMON, **size)
    assert difference(mine, other) <= TOLERANCE


def test_a_grey_adapter_and_a_bgr_net() -> None:
    folder = tiny_t2i_adapter("sd1", 1, in_channels=1)
    pipe = _pipe("sd1", "Adapter", (("adapter", adapter_module(folder)),))
    size = {"height": 32, "width": 32, "guidance_scale": 7.5}
    other = theirs(pipe, (5,), image=picture(11).convert("L"), scheduler=ddim(pipe), **COMMON, **size)
    use = [ControlNet(model=folder, image=picture(11))]
    mine = ours(engine_for("sd1"), seeds=(5,), use=use, scheduler="ddim", **COMMON, **size)
    assert difference(mine, other) <= TOLERANCE

    order = {"controlnet_conditioning_channel_order": "bgr"}
    pipe = _control_pipe("sd1", "", (1,), **order)
    other = theirs(pipe, (5,), image=picture(11), **COMMON, **size)
    use = _uses("sd1", (1,), (1.0,), settings=order)
    assert difference(ours(engine_for("sd1"), seeds=(5,), use=use, **COMMON, **size), other) <= TOLERANCE


def test_pooled_conditions() -> None:
    settings = {"global_pool_conditions": True}
    size = {"height": 32, "width": 32, "guidance_scale": 7.5}
    other = theirs(_control_pipe("sd1", "", (1,), **settings), (5,), image=picture(11), **COMMON, **size)
    for mode in ("balanced", "control"):
        use = _uses("sd1", (1,), (1.0,), settings=settings, mode=mode)
        assert difference(ours(engine_for("sd1"), seeds=(5,), use=use, **COMMON, **size), other) <= TOLERANCE


def test_one_net_is_bit_identical() -> None:
    """Text to picture with one or two nets: the same operations on the same numbers."""
    size = {"height": 32, "width": 32, "guidance_scale": 7.5}
    for family in FAMILIES:
        other = theirs(_control_pipe(family, "", (1,)), (5,), image=picture(11), **COMMON, **size)
        mine = ours(engine_for(*FAMILIES[family]), seeds=(5,), use=_uses(family, (1,), (1.0,)), **COMMON, **size)
        assert all(torch.equal(a, b) for a, b in zip(mine.latents, other.latents, strict=True))
