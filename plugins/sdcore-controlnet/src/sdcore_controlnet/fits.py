"""Whether a control net fits the U-Net of a model: from configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .describe import Description

FAMILIES = {"sd1": "SD1.x", "sd2": "SD2.x", "sdxl": "SDXL", "refiner": "SDXL refiner"}


def residual_count(description: Description) -> int:
    """How many tensors the net adds to the U-Net: what ``blocks`` has a factor for."""
    config = description.config
    if description.kind == "T2I-Adapter":
        channels = config.get("channels", (320, 640, 1280, 1280))
        return len(channels) + (config.get("adapter_type") == "light_adapter")
    levels = len(config.get("block_out_channels", (320, 640, 1280, 1280)))
    return 1 + levels * int(config.get("layers_per_block", 2)) + levels - 1 + 1


def family_name(config: Mapping[str, Any]) -> str:
    """The family of a ControlNet or U-Net in words, by the width of its text and what is added to its time."""
    width, added = config.get("cross_attention_dim", 1280), config.get("addition_embed_type")
    known = {
        (768, None): "SD1.x",
        (1024, None): "SD2.x",
        (2048, "text_time"): "SDXL",
        (1280, "text_time"): "SDXL refiner",
    }
    return known.get(
        (width, added), f"a U-Net with text of width {width}" + (" and SDXL's added conditions" if added else "")
    )


def misfit(description: Description, unet: Mapping[str, Any], family: str, factor: int, channels: int) -> str | None:
    """Why a net cannot be used with a U-Net; None if it can.

    Args:
        description: of the net.
        unet: configuration of the U-Net.
        family: of the model: "sd1", "sd2", "sdxl" or "refiner".
        factor: pixels to a latent.
        channels: of the latents.
    """
    if description.kind == "T2I-Adapter":
        return _adapter_misfit(description, unet, family, factor)
    config, model = description.config, FAMILIES.get(family, family)
    mine = config.get("cross_attention_dim", 1280), config.get("addition_embed_type")
    its = unet.get("cross_attention_dim"), unet.get("addition_embed_type")
    if mine != its:
        told = family_name(config)
        detail = "" if told in FAMILIES.values() else f" (the model's text has the width {its[0]})"
        return (
            f"{description.what}: a ControlNet for {told}, and the model is {model}{detail}; use one made for {model}"
        )
    widths = list(config.get("block_out_channels", (320, 640, 1280, 1280)))
    if widths != list(unet.get("block_out_channels", ())) or config.get("layers_per_block", 2) != unet.get(
        "layers_per_block", 2
    ):
        return (
            f"{description.what}: a ControlNet for a U-Net with the channels {widths}, and this {model} model has "
            f"{list(unet.get('block_out_channels', ()))}; use one made for this model"
        )
    if config.get("in_channels", 4) != channels:
        return f"{description.what}: takes latents of {config.get('in_channels')} channels, the model's have {channels}"
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        return f"{description.what}: a ControlNet with class labels, which this plugin does not run"
    if config.get("addition_embed_type") not in (None, "text_time"):
        return f"{description.what}: a ControlNet with {config['addition_embed_type']!r} conditions, not for SD or SDXL"
    if config.get("conditioning_channels", 3) not in (1, 3):
        return (
            f"{description.what}: takes control pictures of {config['conditioning_channels']} channels, not of 3 or 1"
        )
    embedding = config.get("conditioning_embedding_out_channels") or (16, 32, 96, 256)
    if 2 ** (len(embedding) - 1) != factor:
        return (
            f"{description.what}: makes of {2 ** (len(embedding) - 1)} pixels a latent, and the model's codec of "
            f"{factor}; use one made for this model"
        )
    return None


def _adapter_misfit(description: Description, unet: Mapping[str, Any], family: str, factor: int) -> str | None:
    config, model = description.config, FAMILIES.get(family, family)
    xl = config.get("adapter_type", "full_adapter") == "full_adapter_xl"
    if xl != (unet.get("addition_embed_type") is not None):
        mine = "SDXL" if xl else "SD1.x or SD2.x"
        return f"{description.what}: a T2I-Adapter for {mine}, and the model is {model}; use one made for {model}"
    widths = list(unet.get("block_out_channels", ()))
    wanted = [*widths, widths[-1]] if xl else widths
    given = list(config.get("channels", (320, 640, 1280, 1280)))
    if config.get("adapter_type") == "light_adapter":
        given.append(given[-1])
    if given != wanted:
        return f"{description.what}: a T2I-Adapter with the channels {given}, and this {model} model needs {wanted}"
    down = int(config.get("downscale_factor", 8))
    needed = factor * (2 if xl else 1)
    if down != needed:
        return (
            f"{description.what}: a T2I-Adapter that begins with {down} pixels, and this {model} model needs {needed}"
        )
    if config.get("in_channels", 3) not in (1, 3):
        return f"{description.what}: takes control pictures of {config['in_channels']} channels, not of 3 or 1"
    return None
