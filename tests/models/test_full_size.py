"""The published architectures, without their weights: on the meta device, from shapes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdcore.models import shapes, templates
from sdcore.models.single_file import find_family
from sdcore.models.single_file_text import _from_openclip

from .original_layout import original_openclip, original_unet, original_vae

XL = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "sample_size": 128,
}
UNETS: dict[str, tuple[float, dict[str, Any]]] = {
    "sd1": (859.5, {"cross_attention_dim": 768, "attention_head_dim": 8}),
    "sd2": (
        865.9,
        {
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "upcast_attention": True,
        },
    ),
    "sdxl": (
        2567.5,
        XL
        | {
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
    "refiner": (
        2259.5,
        XL
        | {
            "block_out_channels": [384, 768, 1536, 1536],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": 4,
            "attention_head_dim": [6, 12, 24, 24],
            "cross_attention_dim": 1280,
            "projection_class_embeddings_input_dim": 2560,
        },
    ),
}
WIDE = {"block_out_channels": [320, 640, 1280, 1280], "sample_size": 64}
TEXT = {
    "openai": (123.1, "quick_gelu", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}),
    "openclip-h": (340.4, "gelu", {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16}),
    "openclip-bigg": (694.7, "gelu", {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20}),
}


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("family", UNETS)
@pytest.mark.parametrize("in_channels", [4, 9, 8])
def test_unet(family: str, in_channels: int) -> None:
    size, published = UNETS[family]
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(WIDE | published | {"in_channels": in_channels})
    original = {
        "model.diffusion_model." + key: tensor
        for key, tensor in original_unet(unet.state_dict(), unet.config.layers_per_block).items()
    }
    extra = {
        "sdxl": "conditioner.embedders.1.model.ln_final.bias",
        "refiner": "conditioner.embedders.0.model.ln_final.bias",
    }
    marker = {extra[family]: torch.empty(1)} if family in extra else {}
    assert find_family(original | marker, path=None) == family  # type: ignore[arg-type]
    assert find_family(original, path=None) == family  # type: ignore[arg-type]

    hint = {"layers_per_block": 2, "addition_embed_type": published.get("addition_embed_type")}
    derived = shapes.unet_config(shapes.shapes_of(convert_ldm_unet_checkpoint(original, hint)), family)
    with torch.device("meta"):
        rebuilt = UNet2DConditionModel.from_config(derived)
    assert shapes.shapes_of(rebuilt.state_dict()) == shapes.shapes_of(unet.state_dict())
    assert round(millions(rebuilt), 1) == pytest.approx(size, abs=0.12)
    same = dict(rebuilt.config) | {"_use_default_values": None}
    expected = dict(unet.config) | {"_use_default_values": None}
    if family == "refiner":  # where there is no attention, its depth means nothing
        assert same.pop("transformer_layers_per_block") == [1, 4, 4, 4]
        expected.pop("transformer_layers_per_block")
    for key, value in expected.items():
        found = same[key]
        assert (list(found) if isinstance(found, tuple) else found) == (
            list(value) if isinstance(value, tuple) else value
        ), key


@pytest.mark.parametrize("family", templates.VAE)
def test_vae(family: str) -> None:
    published = {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
    }
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(published)
    hint = {"down_block_types": [None] * 4, "up_block_types": [None] * 4}
    with torch.device("meta"):
        converted = convert_ldm_vae_checkpoint(original_vae(vae.state_dict()), hint)
        rebuilt = AutoencoderKL.from_config(shapes.vae_config(shapes.shapes_of(converted), family))
    assert shapes.shapes_of(rebuilt.state_dict()) == shapes.shapes_of(vae.state_dict())
    assert millions(rebuilt) == pytest.approx(83.65, abs=0.01)


@pytest.mark.parametrize("kind", TEXT)
def test_text_encoder(kind: str) -> None:
    size, act, published = TEXT[kind]
    width = published["hidden_size"]
    config = CLIPTextConfig(
        **published, intermediate_size=4 * width, hidden_act=act, projection_dim=width, vocab_size=49408
    )
    cls = CLIPTextModelWithProjection if kind == "openclip-bigg" else CLIPTextModel
    with torch.device("meta"):
        model = cls(config)
        weights = {key.removeprefix("text_model."): tensor for key, tensor in model.state_dict().items()}
        if kind != "openai":
            weights = _from_openclip(original_openclip(weights, kind == "openclip-h"), drop_last=kind == "openclip-h")
    weights = {key.removeprefix("text_model."): tensor for key, tensor in weights.items()}
    derived = shapes.text_config(shapes.shapes_of(weights), kind.partition("-")[0])
    assert all(getattr(config, key) == value for key, value in derived.items())
    assert millions(model) == pytest.approx(size, abs=0.1)
