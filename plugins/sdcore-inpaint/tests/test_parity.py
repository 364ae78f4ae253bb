"""The same latents at every step as the inpainting pipelines of diffusers, bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sdcore_inpaint import Inpaint

from sdcore.testing.parity import difference, ours, theirs
from sdcore.testing.tiny import tiny_folder

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
}
MODELS = [("sd1", 4), ("sd1", 9), ("sd2", 4), ("sdxl", 4), ("sdxl", 9), ("refiner", 4)]
SETTINGS = [(1.0, 7.5, (5,)), (0.6, 1.0, (5, 2**40, 7)), (0.6, 7.5, (5,)), (1.0, 1.0, (5, 6))]
TEXT = {"prompt": "a red cat", "negative_prompt": "blue dog"}


@functools.cache
def pipeline(family: str, channels: int) -> Any:
    name = "StableDiffusionXLInpaintPipeline" if family in ("sdxl", "refiner") else "StableDiffusionInpaintPipeline"
    return getattr(diffusers, name).from_pretrained(tiny_folder(family, in_channels=channels))


def scheduler(pipe: Any, name: str) -> Any:
    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(pipe.scheduler.config, **settings)


def grey_mask(width: int, height: int) -> Image.Image:
    """White, light grey, dark grey and black: diffusers cuts at one half."""
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    draw.ellipse((width * 0.2, height * 0.3, width * 0.7, height * 0.8), fill=255)
    draw.rectangle((width * 0.7, height * 0.1, width * 0.95, height * 0.3), fill=140)
    draw.rectangle((0, 0, width * 0.2, height * 0.2), fill=90)
    return mask


CELLS = [
    (family, channels, name, *SETTINGS[(turn + number) % len(SETTINGS)])
    for number, (family, channels) in enumerate(MODELS)
    for turn, name in enumerate(SCHEDULERS)
    if not (family in ("sd2", "sdxl", "refiner") and (turn + number) % 2)
]


@pytest.mark.parametrize(("family", "channels", "name", "strength", "guidance", "seeds"), CELLS)
def test_every_step_is_identical(
    engine_of: Any, picture: Any, family: str, channels: int, name: str, strength: float, guidance: float, seeds: Any
) -> None:
    pipe, image, mask = pipeline(family, channels), picture(32, 32), grey_mask(32, 32)
    mine = ours(
        engine_of(family, channels), use=[Inpaint(mask=mask)], image=image, strength=strength, steps=5, scheduler=name,
        guidance_scale=guidance, seeds=seeds, output="latent", **TEXT,
    )  # fmt: skip
    other = theirs(
        pipe, seeds, scheduler(pipe, name), image=[image] * len(seeds), mask_image=mask, height=32, width=32,
        strength=strength, num_inference_steps=5, guidance_scale=guidance, **TEXT,
    )  # fmt: skip
    assert difference(mine, other) == 0.0


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize(("size", "asked"), [((67, 45), (64, 40)), ((50, 70), (48, 64)), ((67, 45), (32, 48))])
def test_a_picture_of_another_size(engine_of: Any, picture: Any, channels: int, size: Any, asked: Any) -> None:
    pipe, image, mask = pipeline("sd1", channels), picture(*size), grey_mask(*size)
    mine = ours(
        engine_of("sd1", channels), use=[Inpaint(mask=mask)], image=image, strength=0.7, steps=4, scheduler="ddim",
        seeds=(5,), output="latent", width=asked[0], height=asked[1], **TEXT,
    )  # fmt: skip
    other = theirs(
        pipe, (5,), scheduler(pipe, "ddim"), image=[image], mask_image=mask, width=asked[0], height=asked[1],
        strength=0.7, num_inference_steps=4, guidance_scale=7.5, **TEXT,
    )  # fmt: skip
    assert difference(mine, other) == 0.0


@pytest.mark.parametrize("channels", [4, 9])
def test_denoising_start(engine_of: Any, picture: Any, channels: int) -> None:
    pipe, image, mask, seeds = pipeline("sdxl", channels), picture(32, 32), grey_mask(32, 32), (5, 6)
    mine = ours(
        engine_of("sdxl", channels), use=[Inpaint(mask=mask)], image=image, denoising_start=0.4, steps=6,
        guidance_scale=7.5, scheduler="euler", seeds=seeds, output="latent", **TEXT,
    )  # fmt: skip
    other = theirs(
        pipe, seeds, scheduler(pipe, "euler"), image=[image] * 2, mask_image=mask, height=32, width=32,
        denoising_start=0.4, num_inference_steps=6, guidance_scale=7.5, **TEXT,
    )  # fmt: skip
    assert difference(mine, other) == 0.0


CROPS = [
    ((120, 90), (20, 20, 50, 45), 8, (32, 32)),
    ((97, 61), (5, 10, 80, 40), 4, (32, 40)),
    ((100, 40), (10, 5, 90, 30), 6, (48, 48)),  # wider than high: the part does not fill the drawing
    ((64, 64), (20, 20, 50, 45), 32, (40, 40)),
]


@pytest.mark.parametrize(
    ("family", "channels", "size", "box", "padding", "asked"),
    [(*model, *crop) for model, crop in zip([("sd1", 4), ("sd1", 9), ("sdxl", 4)] * 3, CROPS * 3, strict=False)][:8],
)
def test_only_masked_is_padding_mask_crop(
    engine_of: Any, picture: Any, blob: Any, family: str, channels: int, size: Any, box: Any, padding: int, asked: Any
) -> None:
    pipe, image, mask = pipeline(family, channels), picture(*size), blob(*size, box)
    mine = ours(
        engine_of(family, channels), use=[Inpaint(mask=mask, only_masked=True, padding=padding)], image=image,
        strength=0.7, steps=3, scheduler="ddim", guidance_scale=7.5, seeds=(5,), width=asked[0], height=asked[1],
        **TEXT,
    )  # fmt: skip
    other = theirs(
        pipe, (5,), scheduler(pipe, "ddim"), image=image, mask_image=mask, width=asked[0], height=asked[1],
        strength=0.7, num_inference_steps=3, guidance_scale=7.5, padding_mask_crop=padding, output_type="pil", **TEXT,
    )  # fmt: skip
    assert difference(mine, other) == 0.0
    assert mine.images[0].size == size
    assert mine.images[0].tobytes() == other.images[0].tobytes()


def test_decoded_pictures_agree_inside_the_mask(engine_of: Any, picture: Any, blob: Any) -> None:
    pipe, image, mask = pipeline("sd1", 4), picture(32, 32), blob(32, 32)
    mine = ours(engine_of(), use=[Inpaint(mask=mask)], image=image, strength=1.0, steps=3, scheduler="ddim", seeds=(5,))
    other = theirs(
        pipe, (5,), scheduler(pipe, "ddim"), prompt="", image=image, mask_image=mask, height=32, width=32, strength=1.0,
        num_inference_steps=3, guidance_scale=7.5, output_type="pil",
    )  # fmt: skip
    inside = np.asarray(mask) >= 128
    new, reference = np.asarray(mine.images[0]), np.asarray(other.images[0])
    assert np.array_equal(new[inside], reference[inside])
    assert np.array_equal(new[~inside], np.asarray(image)[~inside])  # theirs shows the codec's version there
    assert not np.array_equal(reference[~inside], np.asarray(image)[~inside])


def test_half_precision_masks_do_not_change_dtype(picture: Any, blob: Any) -> None:
    from sdcore_inpaint import InpaintPlugin

    from sdcore import Engine

    engine = Engine.load(tiny_folder("sd1", in_channels=9), plugins=[InpaintPlugin], dtype="bfloat16")
    result = engine.generate(
        "a red cat", seed=1, steps=2, image=picture(32, 32), strength=1.0, output="latent",
        use=[Inpaint(mask=blob(32, 32), softness="soft")],
    )  # fmt: skip
    assert result.latents.dtype == torch.bfloat16
