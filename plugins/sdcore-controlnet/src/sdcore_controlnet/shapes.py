"""Configurations of nets in one file, from the shapes of their tensors. Needs no torch.

A ControlNet is a copy of the first half of a U-Net, so what shapes cannot tell (activation, groups, widths of
heads) is taken from the U-Net that it is to be used with, as `ControlNetModel.from_unet` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
_FROM_UNET = (
    *("flip_sin_to_cos", "freq_shift", "only_cross_attention", "downsample_padding", "mid_block_scale_factor"),
    *("act_fn", "norm_num_groups", "norm_eps", "upcast_attention", "resnet_time_scale_shift"),
    *("attention_head_dim", "num_attention_heads", "addition_time_embed_dim"),
)
HEAD_WIDTH = 64


def controlnet_config(shapes: Shapes, unet: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a `ControlNetModel` whose weights, in diffusers layout, have these shapes.

    Args:
        shapes: by diffusers key.
        unet: configuration of the U-Net.

    Raises:
        KeyError, StopIteration: a tensor that every ControlNet has is missing.
    """
    levels = _count(shapes, "down_blocks.")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    depths = [_count(shapes, f"down_blocks.{i}.attentions.0.transformer_blocks.") for i in range(levels)]
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks.")
    depth = [found or 1 for found in depths]
    if middle and not depths[-1]:
        depth[-1] = middle
    embedding = [shapes["controlnet_cond_embedding.conv_in.weight"][0]]
    embedding += [
        shapes[f"controlnet_cond_embedding.blocks.{i}.weight"][0]
        for i in range(1, _count(shapes, "controlnet_cond_embedding.blocks."), 2)
    ]
    attended = [shape for key, shape in shapes.items() if key.endswith("attn2.to_k.weight")]
    projected = next((s for k, s in shapes.items() if k.endswith("attentions.0.proj_in.weight")), (0, 0, 1, 1))
    config = {key: unet[key] for key in _FROM_UNET if key in unet}
    if list(unet.get("block_out_channels", ())) != widths:  # another family's: as its own U-Net has them
        linear = len(projected) == 2
        config["attention_head_dim"] = [max(1, width // HEAD_WIDTH) for width in widths] if linear else 8
        config["num_attention_heads"] = None
    config |= {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": shapes["controlnet_cond_embedding.conv_in.weight"][1],
        "conditioning_embedding_out_channels": embedding,
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "down_block_types": ["CrossAttnDownBlock2D" if found else "DownBlock2D" for found in depths],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        "transformer_layers_per_block": depth,
        "cross_attention_dim": attended[0][1] if attended else unet.get("cross_attention_dim", 1280),
        "use_linear_projection": len(projected) == 2,
    }
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        }
        config["addition_time_embed_dim"] = config.get("addition_time_embed_dim") or 256
    return config


def adapter_config(shapes: Shapes, factor: int) -> dict[str, Any]:
    """The configuration of a `T2IAdapter` whose weights, in diffusers layout, have these shapes.

    Args:
        shapes: by diffusers key.
        factor: pixels to a latent of the model that it is used with. The full adapter and that of SDXL have tensors
            of the same names; the latter begins with a factor twice as large.

    Raises:
        KeyError: a tensor that every T2I-Adapter has is missing.
    """
    blocks = _count(shapes, "adapter.body.")
    resnets = _count(shapes, "adapter.body.0.resnets.")
    if "adapter.conv_in.weight" not in shapes:
        out = [shapes[f"adapter.body.{i}.out_conv.weight"][0] for i in range(blocks)]
        inside = shapes["adapter.body.0.in_conv.weight"][1]
        channels, down = _unshuffled(inside)
        kind, widths = "light_adapter", out[:-1]
    else:
        inside = shapes["adapter.conv_in.weight"][1]
        channels, down = _unshuffled(inside)
        widths = [shapes[f"adapter.body.{i}.resnets.0.block1.weight"][0] for i in range(blocks)]
        kind = "full_adapter_xl" if down > factor else "full_adapter"
    return {
        "adapter_type": kind,
        "in_channels": channels,
        "channels": widths,
        "num_res_blocks": resnets,
        "downscale_factor": down,
    }


def _unshuffled(inside: int) -> tuple[int, int]:
    """(channels of the picture, factor) for so many channels after pixels were put into channels."""
    for channels in (3, 1):
        factor = round((inside / channels) ** 0.5)
        if channels * factor**2 == inside:
            return channels, factor
    raise KeyError(f"{inside} channels, which no picture of 3 or 1 channels gives")


def _count(shapes: Shapes, prefix: str) -> int:
    return len({key[len(prefix) :].split(".", 1)[0] for key in shapes if key.startswith(prefix)})
