"""The package is found, loads, and draws what a prompt says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import sdcore_mini
import torch
from diffusers import DDIMScheduler

from sdcore.models import Model, installed_models, load_model


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("mini")


def test_is_found() -> None:
    (found,) = [entry for entry in installed_models() if entry.name == "mini"]
    assert found.error is None
    assert found.path == sdcore_mini.model_folder()
    assert found.distribution.startswith("sdcore-mini ")


def test_importing_it_needs_nothing() -> None:
    assert not {"torch", "sdcore"} & set(vars(sys.modules["sdcore_mini"]))


def test_is_small_and_says_nothing_of_where_it_was_made() -> None:
    folder = sdcore_mini.model_folder()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 60e6
    for path in folder.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text())


def test_facts(model: Model) -> None:
    assert (model.family, model.task, model.source) == ("sd1", "text", "mini")
    assert (model.latent_channels, model.vae_scale_factor) == (8, 8)
    assert model.tokenizers[0].model_max_length == 32
    assert model.defaults == {"steps": 25, "guidance_scale": 1.75, "scheduler": "ddim"}
    assert model.scheduler_config["prediction_type"] == "v_prediction"
    assert model.scheduler_config["timestep_spacing"] == "trailing"


@torch.inference_mode()
def draw(model: Model, prompts: list[str], steps: int = 15, guidance: float = 1.75) -> np.ndarray:
    """Pictures (count, height, width, 3) in [0, 1], by the plainest loop there is."""
    tokenizer, scheduler = model.tokenizers[0], DDIMScheduler.from_config(model.scheduler_config)
    ids = tokenizer(["", *prompts], padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = model.text_encoders[0](ids)[0]
    context = torch.cat([text[:1].expand(len(prompts), -1, -1), text[1:]])
    latents = torch.randn(len(prompts), 8, 8, 8, generator=torch.Generator().manual_seed(3))
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps.tolist():
        without, with_text = model.unet(torch.cat([latents, latents]), t, context).sample.chunk(2)
        latents = scheduler.step(without + guidance * (with_text - without), t, latents).prev_sample
    pictures = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    return (pictures / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def test_draws_what_the_prompt_says(model: Model) -> None:
    apple, leaf, on_black = draw(
        model,
        [
            "a red apple, flat style, white background",
            "a green apple, flat style, white background",
            "a red apple, flat style, black background",
        ],
    )
    middle = (slice(24, 40), slice(24, 40))
    red, green, _ = apple[middle].mean((0, 1))
    assert red > green + 0.2
    red, green, _ = leaf[middle].mean((0, 1))
    assert green > red + 0.05
    assert apple[:6, :6].mean() > 0.85
    assert on_black[:6, :6].mean() < 0.2


def test_diffusers_inpainting_reads_it_too() -> None:
    from diffusers import StableDiffusionInpaintPipeline

    assert StableDiffusionInpaintPipeline.from_pretrained(str(sdcore_mini.model_folder())).vae is not None


def test_is_a_diffusers_folder(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(sdcore_mini.model_folder(), dtype=torch.float32)
    mine = load_model("mini").unet.state_dict()
    assert all(torch.equal(mine[key], tensor) for key, tensor in pipe.unet.state_dict().items())
