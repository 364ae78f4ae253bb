"""From SDXL base to the refiner: both halves, done by sdcore and by diffusers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .oracle import NEGATIVE, PROMPT, SEEDS, Both, Trace, difference, load

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SHARED: dict[str, Any] = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "num_inference_steps": 5,
    "guidance_scale": 5.0,
}


def ours(both: Both, scheduler: str, **fields: Any) -> Trace:
    return both.sdcore(scheduler=scheduler, seeds=SEEDS[:2], batch_size=2, output="latent", **SHARED, **fields)


def theirs(both: Both, task: str, scheduler: str, **fields: Any) -> Trace:
    return both.diffusers(task, scheduler, SEEDS[:2], output_type="latent", **SHARED, **fields)


@pytest.mark.parametrize("at", [0.35, 0.8])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler-a", "heun", "dpmpp-2m", "dpmpp-2m-karras"])
def test_base_then_refiner(scheduler: str, at: float) -> None:
    base, refiner = load("sdxl"), load("refiner")
    size = {"height": 32, "width": 32}
    first = ours(base, scheduler, denoising_end=at, **size)
    peer = theirs(base, "txt2img", scheduler, denoising_end=at, **size)
    assert difference(first, peer) == 0.0
    assert first.final is not None
    assert peer.final is not None
    second = ours(refiner, scheduler, denoising_start=at, image=first.final)
    assert difference(second, theirs(refiner, "img2img", scheduler, denoising_start=at, image=peer.final)) == 0.0
    if scheduler != "heun":
        assert len(first.timesteps) + len(second.timesteps) == 5


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp-2m-karras"])
def test_the_middle_only(scheduler: str) -> None:
    both = load("sdxl")
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    fields = {"denoising_start": 0.3, "denoising_end": 0.7, "image": latents}
    assert difference(ours(both, scheduler, **fields), theirs(both, "img2img", scheduler, **fields)) == 0.0


def test_img2img_up_to_a_fraction() -> None:
    from .oracle import init_image

    both = load("sdxl")
    fields = {"image": init_image(), "strength": 0.8, "denoising_end": 0.7}
    assert difference(ours(both, "euler", **fields), theirs(both, "img2img", "euler", **fields)) == 0.0


def test_one_model_in_two_halves_is_one_run() -> None:
    """Deterministic, without memory of earlier steps: the two halves give the bits of the whole."""
    both = load("sdxl")
    whole = ours(both, "ddim", height=32, width=32)
    first = ours(both, "ddim", height=32, width=32, denoising_end=0.5)
    second = ours(both, "ddim", image=first.final, denoising_start=0.5)
    assert whole.timesteps == first.timesteps + second.timesteps
    assert all(torch.equal(a, b) for a, b in zip(whole.latents, first.latents + second.latents, strict=True))
