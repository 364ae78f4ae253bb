"""Grey masks: blended, or as the strength of every pixel."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_inpaint import Inpaint, InpaintPlugin
from sdcore_inpaint.mask_latent import NEVER, first_steps

from sdcore import Engine
from sdcore.testing.parity import ours
from sdcore.testing.tiny import tiny_folder

FIELDS: dict[str, Any] = {"prompt": "a red cat", "seed": 3, "output": "latent"}


def test_first_steps() -> None:
    strengths = torch.tensor([0.0, 0.05, 0.3, 0.6, 153 / 255, 1.0])
    assert first_steps(strengths, 10).tolist() == [NEVER, NEVER, 7, 4, 4, 0]


@functools.cache
def exact(channels: int) -> Engine:
    """In float64: in float32 a tiny random model makes a visible difference of how a convolution was rounded."""
    folder = tiny_folder("sd1", in_channels=channels)
    return Engine.load(folder, plugins=[InpaintPlugin], device="cpu", dtype="float64")


@pytest.mark.parametrize("name", ["ddim", "euler", "heun"])
@pytest.mark.parametrize("grey", [77, 153, 204])
def test_a_constant_grey_is_image_to_image_of_that_strength(picture: Any, name: str, grey: int) -> None:
    common = {**FIELDS, "steps": 10, "scheduler": name, "image": picture(32, 32)}
    mask = Image.new("L", (32, 32), grey)
    graded = exact(4).generate(**common, strength=1.0, use=[Inpaint(mask=mask, softness="differential")])
    plain = exact(4).generate(**common, strength=grey / 255)
    assert gap(graded.latents, plain.latents) < 1e-7


@pytest.mark.parametrize("grey", [77, 204])
def test_so_it_is_with_a_unet_that_is_told_the_mask(picture: Any, grey: int) -> None:
    """Against a white mask at that strength; black in one place, so that it is no mask of everything."""
    common = {**FIELDS, "steps": 10, "scheduler": "euler", "image": picture(32, 32)}
    white, dark = Image.new("L", (32, 32), 255), Image.new("L", (32, 32), grey)
    for mask in (white, dark):
        mask.paste(0, (28, 28, 32, 32))
    graded = exact(9).generate(**common, strength=1.0, use=[Inpaint(mask=dark, softness="differential")])
    plain = exact(9).generate(**common, strength=grey / 255, use=[Inpaint(mask=white, softness="differential")])
    assert gap(graded.latents, plain.latents) < 1e-7


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_a_place_begins_to_change_at_the_step_of_its_strength(engine_of: Any, picture: Any) -> None:
    greys = [0, 64, 128, 192, 255]
    mask = Image.fromarray(np.repeat(np.array([greys], dtype=np.uint8), 16, axis=1).repeat(32, axis=0))
    engine, image = engine_of(), picture(80, 32)
    traces = [
        ours(
            engine, use=[Inpaint(mask=mask, softness="differential")], image=image, strength=1.0, steps=8,
            scheduler="ddim", prompt=prompt, seed=3, output="latent",
        )
        for prompt in ("a red cat", "blue dog")
    ]  # fmt: skip
    first = [8, 6, 4, 2, 0]  # the step from which on the prompt has a say
    for step, (one, other) in enumerate(zip(traces[0].latents, traces[1].latents, strict=True)):
        differs = (one != other).any(dim=1)[0].reshape(8, 5, 4).any(dim=2).any(dim=0)
        assert differs.tolist() == [step >= begin for begin in first]


def test_the_requests_strength_is_the_most(engine_of: Any, picture: Any) -> None:
    engine, found = engine_of(), []
    for grey in (255, 230, 80):
        mask = Image.new("L", (32, 32))
        mask.paste(grey, (8, 8, 24, 28))
        use = [Inpaint(mask=mask, softness="differential")]
        fields = {**FIELDS, "steps": 10, "scheduler": "ddim", "image": picture(32, 32), "strength": 0.5}
        found.append(engine.generate(**fields, use=use).latents)
    assert gap(found[0], found[1]) == 0
    assert gap(found[0], found[2]) > 0.01


def test_soft_blends_by_the_grey_in_every_step(engine_of: Any, picture: Any) -> None:
    engine, image = engine_of(), picture(32, 32)
    spy: Any = engine.host.plugin("spy")
    mask = Image.new("L", (32, 32), 51)
    result = engine.generate(
        **FIELDS, steps=4, scheduler="ddim", strength=0.8, image=image, use=[Inpaint(mask=mask, softness="soft"), "spy"]
    )
    kept = engine.generate(**FIELDS, steps=4, scheduler="ddim", strength=0.0, image=image).latents
    assert torch.allclose(result.latents, 0.8 * kept + 0.2 * spy.scheduled[-1], atol=1e-5)


def test_on_a_binary_mask_that_fits_the_latents_soft_is_hard(engine_of: Any, picture: Any) -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 20))
    common = {**FIELDS, "steps": 3, "scheduler": "euler-a", "image": picture(32, 32), "strength": 0.7}
    hard = engine_of().generate(**common, use=[Inpaint(mask=mask)])
    soft = engine_of().generate(**common, use=[Inpaint(mask=mask, softness="soft")])
    assert gap(hard.latents, soft.latents) == 0


@pytest.mark.parametrize("softness", ["soft", "differential"])
def test_a_unet_that_is_told_the_mask_keeps_what_is_black(engine_of: Any, picture: Any, softness: Any) -> None:
    """Hard masks leave that to the U-Net, as diffusers does; grey ones blend."""
    engine, image, mask = engine_of("sd1", 9), picture(32, 32), Image.new("L", (32, 32))
    mask.paste(200, (8, 8, 24, 20))
    fields = {**FIELDS, "steps": 3, "scheduler": "ddim", "image": image, "strength": 0.7}
    one, other = (
        engine.generate(**{**fields, "prompt": prompt}, use=[Inpaint(mask=mask, softness=softness)]).latents
        for prompt in ("a red cat", "blue dog")
    )
    outside = torch.ones(1, 4, 8, 8, dtype=torch.bool)
    outside[..., 2:5, 2:6] = False
    assert gap(one[outside], other[outside]) == 0
    assert gap(one, other) > 0.001
