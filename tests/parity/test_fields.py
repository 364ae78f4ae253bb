"""Every request field that diffusers' pipelines have too, against them: latents after every step, difference zero."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .oracle import PROMPT, SEEDS, SIZE, difference, init_image, load, tasks

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

IMG2IMG = [model for model, task in tasks() if task == "img2img"]


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "euler", "heun", "dpmpp-2m-karras"])
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_strength(strength: float, scheduler: str) -> None:
    ours, theirs = load("sdxl" if scheduler == "euler" else "sd1").pair(
        "img2img", scheduler, strength=strength, num_inference_steps=5
    )
    assert difference(ours, theirs) == 0.0
    once = {0.3: 1, 0.6: 3, 1.0: 5}[strength]
    twice = 2 * once - 1  # the last step of a second-order scheduler is of first order
    assert len(ours.latents) == (twice if scheduler == "heun" else once + (scheduler == "pndm"))


@pytest.mark.parametrize("size", [(37, 45), (50, 24)])
@pytest.mark.parametrize("model", ["sd1", "refiner"])
def test_picture_of_any_size(model: str, size: tuple[int, int]) -> None:
    ours, theirs = load(model).pair("img2img", "euler", image=init_image(*size))
    assert difference(ours, theirs) == 0.0
    assert ours.latents[0].shape[-2:] == (size[1] // 4, size[0] // 4)


@pytest.mark.parametrize("model", IMG2IMG)
def test_latents_as_picture(model: str) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert difference(*load(model).pair("img2img", "ddim", SEEDS[:2], image=latents)) == 0.0


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize(
    ("model", "task", "scheduler"),
    [("sd1", "txt2img", "ddim"), ("sd2-v", "img2img", "ddim"), ("sdxl", "txt2img", "ddim"), ("sd1", "txt2img", "tcd")],
)
def test_eta(model: str, task: str, scheduler: str, eta: float) -> None:
    both = load(model)
    ours, theirs = both.pair(task, scheduler, SEEDS, eta=eta, num_inference_steps=3)
    assert difference(ours, theirs) == 0.0
    plain = both.ours(task, scheduler, SEEDS, num_inference_steps=3)
    assert not torch.equal(plain.latents[0], ours.latents[0])


@pytest.mark.parametrize("scheduler", ["ddpm", "euler", "heun", "dpmpp-2m", "dpmpp-2m-sde", "dpmpp-2s", "lcm", "tcd"])
@pytest.mark.parametrize(("model", "task"), [("sd1", "txt2img"), ("sdxl", "img2img")])
def test_custom_timesteps(model: str, task: str, scheduler: str) -> None:
    timesteps = [999, 759, 499, 259] if scheduler in ("lcm", "tcd") else [951, 700, 389, 112]
    fields: dict[str, Any] = {"strength": 0.8} if task == "img2img" else {}
    ours, theirs = load(model).pair(task, scheduler, SEEDS[:2], timesteps=timesteps, **fields)
    assert difference(ours, theirs) == 0.0
    assert set(ours.timesteps) <= set(timesteps)


@pytest.mark.parametrize(("model", "task"), [("sd2-v", "txt2img"), ("refiner", "img2img")])
def test_custom_sigmas(model: str, task: str) -> None:
    """diffusers wants the final zero said."""
    fields: dict[str, Any] = {"prompt": PROMPT}
    fields |= {"image": init_image(), "strength": 0.8} if task == "img2img" else {"height": SIZE, "width": SIZE}
    sigmas = [14.0, 6.5, 2.25, 0.5]
    both = load(model)
    ours = both.sdcore(scheduler="euler", seeds=SEEDS[:1], sigmas=sigmas, output="latent", **fields)
    theirs = both.diffusers(task, "euler", SEEDS[:1], sigmas=[*sigmas, 0.0], output_type="latent", **fields)
    assert difference(ours, theirs) == 0.0
    assert len(ours.timesteps) == (3 if task == "img2img" else 4)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("clip_skip", [0, 1])
@pytest.mark.parametrize(("model", "task"), [*((m, "txt2img") for m in ("sd1", "sd2", "sdxl")), ("refiner", "img2img")])
def test_clip_skip(model: str, task: str, clip_skip: int, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    both = load(model)
    encoder = both.pipes[task].components.get("text_encoder")
    if encoder is not None and not hasattr(encoder, "text_model"):
        # Where diffusers 0.42.1 still looks for it; transformers 5.23 has no such attribute any more.
        body = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)
        monkeypatch.setattr(encoder, "text_model", body, raising=False)
    ours, theirs = both.pair(task, "ddim", clip_skip=clip_skip, guidance_scale=guidance, num_inference_steps=2)
    assert difference(ours, theirs) == 0.0
    plain = both.ours(task, "ddim", guidance_scale=guidance, num_inference_steps=2)
    assert torch.equal(plain.latents[0], ours.latents[0]) == (clip_skip == 0)


@pytest.mark.parametrize("negative", [None, "", "blue dog"])
@pytest.mark.parametrize(("model", "task"), [("sd1", "txt2img"), ("sdxl", "txt2img"), ("refiner", "img2img")])
def test_negative_prompt(model: str, task: str, negative: str | None) -> None:
    both = load(model)
    ours, theirs = both.pair(task, "ddim", guidance_scale=7.5, negative_prompt=negative, num_inference_steps=2)
    assert difference(ours, theirs) == 0.0
    # Only SDXL base tells "none" (zeros) from "empty" (the encoding of no text).
    empty = both.ours(task, "ddim", guidance_scale=7.5, negative_prompt="", num_inference_steps=2)
    same = negative == "" or (negative is None and model != "sdxl")
    assert torch.equal(empty.latents[0], ours.latents[0]) == same


def test_negative_prompt_without_guidance_has_no_effect() -> None:
    both = load("sdxl")
    first = both.ours("txt2img", "ddim", guidance_scale=1.0, negative_prompt="blue")
    second = both.ours("txt2img", "ddim", guidance_scale=1.0, negative_prompt=None)
    assert torch.equal(first.latents[-1], second.latents[-1])


SIZES = {"original_size": (70, 50), "crops_coords_top_left": (3, 9), "target_size": (44, 36)}
NEGATIVE_SIZES = {"negative_original_size": (10, 20), "negative_target_size": (90, 80)}
CROP = {"negative_crops_coords_top_left": (5, 2)}
SCORES = {"aesthetic_score": 8.5, "negative_aesthetic_score": 1.0}


@pytest.mark.parametrize(
    ("model", "task", "fields"),
    [
        ("sdxl", "txt2img", SIZES),
        ("sdxl", "txt2img", SIZES | NEGATIVE_SIZES | CROP),
        ("sdxl", "img2img", SIZES),
        ("sdxl", "img2img", SIZES | NEGATIVE_SIZES),
        ("refiner", "img2img", SIZES),
        ("refiner", "img2img", SIZES | NEGATIVE_SIZES | CROP),
        ("refiner", "img2img", SCORES),
        ("refiner", "img2img", SIZES | SCORES),
    ],
)
def test_sizes_and_scores(model: str, task: str, fields: dict[str, Any]) -> None:
    both = load(model)
    ours, theirs = both.pair(task, "ddim", guidance_scale=7.5, num_inference_steps=2, **fields)
    assert difference(ours, theirs) == 0.0
    plain = both.ours(task, "ddim", guidance_scale=7.5, num_inference_steps=2)
    assert not torch.equal(plain.latents[0], ours.latents[0])


@pytest.mark.parametrize("field", [{"guidance_scale": 0.0}, {"guidance_scale": 0.5}, {"guidance_scale": 1.01}])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_guidance_around_one(model: str, field: dict[str, float]) -> None:
    assert difference(*load(model).pair("txt2img", "euler", num_inference_steps=2, **field)) == 0.0


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescale(rescale: float) -> None:
    fields = {"guidance_scale": 7.5, "guidance_rescale": rescale}
    assert difference(*load("sd2-v").pair("txt2img", "ddim", SEEDS, **fields)) == 0.0


@pytest.mark.parametrize(("height", "width"), [(24, 40), (56, 32)])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_size(model: str, height: int, width: int) -> None:
    assert difference(*load(model).pair("txt2img", "ddim", height=height, width=width, num_inference_steps=2)) == 0.0


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a",
        "house " * 75,
        "A Café, naïve ☕ \U0001f408 in 漢字",
        "the\n\tcat  ,  (face:1.3) [dog]",
        "photo of 100% <cat>",
    ],
)
def test_prompts(prompt: str) -> None:
    fields: dict[str, Any] = {"prompt": prompt, "negative_prompt": None, "num_inference_steps": 2}
    assert difference(*load("sdxl").pair("txt2img", "ddim", guidance_scale=7.5, **fields)) == 0.0


@pytest.mark.parametrize("model", ["sd2", "sdxl"])
def test_long_prompt_that_is_cut(model: str) -> None:
    """diffusers always cuts; chunks are our own."""
    both = load(model)
    prompt = "a red cat in the house " * 40
    fields: dict[str, Any] = {"guidance_scale": 7.5, "height": 32, "width": 32, "num_inference_steps": 2}
    ours = both.sdcore(prompt=prompt, scheduler="ddim", seeds=SEEDS[:1], long_prompt="cut", output="latent", **fields)
    theirs = both.diffusers("txt2img", "ddim", SEEDS[:1], prompt=prompt, output_type="latent", **fields)
    assert difference(ours, theirs) == 0.0
