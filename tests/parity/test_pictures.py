"""The decoded pictures, and components that take a codec's or a U-Net's place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel

from .oracle import SEEDS, Both, difference, load, load_with, tasks

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.mark.parametrize(("model", "task"), list(tasks()))
def test_pictures_are_the_same_bytes(model: str, task: str) -> None:
    count = 1 if model == "sd2" else 3
    ours, theirs = load(model).pair(task, None, SEEDS[:count], pictures=True, num_inference_steps=3, guidance_scale=3.0)
    assert difference(ours, theirs) == 0.0
    assert len(ours.images) == len(theirs.images) == count
    for mine, other in zip(ours.images, theirs.images, strict=True):
        assert mine.mode == other.mode == "RGB"
        assert mine.size == other.size
        assert mine.tobytes() == other.tobytes()
    assert len({image.tobytes() for image in ours.images}) == count


def small_codec() -> AutoencoderTiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoencoderTiny(
            encoder_block_out_channels=(16, 16, 16),
            decoder_block_out_channels=(16, 16, 16),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            scaling_factor=0.9,
        ).eval()


@pytest.mark.parametrize("task", ["txt2img", "img2img"])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_tiny_codec(model: str, task: str) -> None:
    both = load_with(model, vae=small_codec())
    ours, theirs = both.pair(task, "euler", SEEDS[:2], pictures=True, num_inference_steps=3)
    assert difference(ours, theirs) == 0.0
    assert [image.tobytes() for image in ours.images] == [image.tobytes() for image in theirs.images]


def codec_with_moments(both: Both) -> Any:
    vae = type(both.engine.model.vae).from_config(both.engine.model.vae.config)
    vae.load_state_dict(both.engine.model.vae.state_dict())
    vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.4], latents_std=[0.9, 1.1, 1.2, 0.8])
    return vae.eval()


@pytest.mark.parametrize("task", ["txt2img", "img2img"])
def test_codec_with_mean_and_deviation(task: str) -> None:
    """As in the SDXL models whose latents are not centred (playground-v2.5)."""
    both = load_with("sdxl", vae=codec_with_moments(load("sdxl")))
    ours, theirs = both.pair(task, "euler", pictures=True, num_inference_steps=3)
    assert difference(ours, theirs) == 0.0
    assert ours.images[0].tobytes() == theirs.images[0].tobytes()
    plain = load("sdxl").ours(task, "euler", pictures=True, num_inference_steps=3)
    assert ours.images[0].tobytes() != plain.images[0].tobytes()


def distilled_unet(both: Both, width: int = 32) -> UNet2DConditionModel:
    """The same U-Net with an input for the guidance scale, as latent consistency models have."""
    own = both.engine.model.unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        unet = UNet2DConditionModel.from_config({**own.config, "time_cond_proj_dim": width})
    missing, unexpected = unet.load_state_dict(own.state_dict(), strict=False)
    assert missing == ["time_embedding.cond_proj.weight"]
    assert unexpected == []
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight, generator=torch.Generator().manual_seed(3))
    return unet.eval()


@pytest.mark.parametrize(
    ("model", "task", "guidance", "width"),
    [
        ("sd1", "txt2img", 1.0, 32),
        ("sd1", "txt2img", 8.0, 33),
        ("sd1", "img2img", 8.0, 32),
        ("sdxl", "txt2img", 8.0, 32),
    ],
)
def test_distilled_unet(model: str, task: str, guidance: float, width: int) -> None:
    both = load_with(model, unet=distilled_unet(load(model), width))
    ours, theirs = both.pair(task, "lcm", SEEDS, guidance_scale=guidance)
    assert difference(ours, theirs) == 0.0
    other = both.ours(task, "lcm", SEEDS, guidance_scale=guidance + 1)
    assert not torch.equal(other.latents[0], ours.latents[0])  # the scale goes in, though nothing is guided
