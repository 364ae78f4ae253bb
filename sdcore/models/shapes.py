"""Configurations read from the shapes of tensors in diffusers layout. Needs no torch.

What the shapes cannot tell comes from the family's template, so that a small or pruned checkpoint loads as well
as a published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import templates

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by key."""
    return {key: tuple(tensor.shape) for key, tensor in weights.items()}


def unet_config(shapes: Shapes, family: str, time_width: int = 256) -> dict[str, Any]:
    """The configuration of a `UNet2DConditionModel` whose weights have these shapes.

    Args:
        shapes: by diffusers key.
        family: whose template fills in the rest.
        time_width: width of the embedding of each of SDXL's time ids.

    Raises:
        KeyError: a tensor that every U-Net has is missing.
    """
    levels = _count(shapes, "down_blocks.")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    depths = [_count(shapes, f"down_blocks.{i}.attentions.0.transformer_blocks.") for i in range(levels)]
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks.")
    crossed = [depth > 0 for depth in depths]
    # Levels without attention ignore their entry, but the last entry is also that of the middle block.
    layers = [depth or 1 for depth in depths]
    if middle and not crossed[-1]:
        layers[-1] = middle
    projection = next(shape for key, shape in shapes.items() if key.endswith("attentions.0.proj_in.weight"))
    context = next(shape for key, shape in shapes.items() if key.endswith("attn2.to_k.weight"))
    config = templates.UNET[family] | {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "down_block_types": ["CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(crossed)],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else None,
        "transformer_layers_per_block": 1 if set(layers) == {1} else layers,
        "cross_attention_dim": context[1],
        "use_linear_projection": len(projection) == 2,
        "attention_head_dim": templates.SD1_HEADS if family == "sd1" else [_heads(width) for width in widths],
    }
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": time_width,
            "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        }
    return config


def vae_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The configuration of an `AutoencoderKL` whose weights have these shapes.

    Raises:
        KeyError: a tensor that every VAE has is missing.
    """
    levels = _count(shapes, "encoder.down_blocks.")
    return templates.VAE[family] | {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [
            shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)
        ],
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def text_config(shapes: Shapes, layout: str) -> dict[str, Any]:
    """The configuration of a CLIP text encoder whose weights have these shapes.

    Args:
        shapes: by the keys of transformers, without "text_model.".
        layout: "openai" or "openclip": decides the activation function and the padding token.

    Raises:
        KeyError: a tensor that every text encoder has is missing.
    """
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    projection = shapes.get("text_projection.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, "encoder.layers."),
        "num_attention_heads": _heads(width),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": templates.ACTIVATION[layout],
        "projection_dim": projection[0] if projection else width,
        "layer_norm_eps": 1e-5,
    }


def _heads(width: int) -> int:
    return max(1, width // templates.HEAD_WIDTH)


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow a prefix: 3 for "blocks.0.x", "blocks.1.x" and "blocks.2.x"."""
    return len({key[len(prefix) :].split(".", 1)[0] for key in shapes if key.startswith(prefix)})
