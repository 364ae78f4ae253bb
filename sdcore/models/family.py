"""Recognising a family from configurations, never from a name, and refusing what only resembles one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcore.errors import ModelError


def recognise(unet: Any, encoders: Mapping[str, Any], source: str) -> str:
    """The family of a U-Net with its text encoders: "sd1", "sd2", "sdxl" or "refiner".

    SD2 differs from SD1 by linear projections in its attention; SDXL adds text and six time ids to the time
    embedding; its refiner five, and has OpenCLIP's text encoder only.

    Args:
        unet: a `UNet2DConditionModel`; its configuration is read.
        encoders: modules or None, by "text_encoder" and "text_encoder_2".
        source: how messages name the model.

    Raises:
        ModelError: it is of no family, or the text encoders do not fit the U-Net.
    """
    config = unet.config
    for setting, words in (
        ("class_embed_type", "an unCLIP or image-variation model"),
        ("num_class_embeds", "an upscaler (x4)"),
        ("encoder_hid_dim_type", "a model with another kind of conditioning"),
    ):
        if config.get(setting) is not None:
            raise ModelError(
                f"{source}: {words} (its U-Net has {setting}={config[setting]!r}); sdcore runs SD1, SD2, SDXL "
                "and the SDXL refiner"
            )
    added = config.get("addition_embed_type")
    if added is None:
        first = _require(encoders, "text_encoder", source)
        _check_width(first.config.hidden_size, config, source)
        return "sd2" if config["use_linear_projection"] else "sd1"
    if added != "text_time":
        raise ModelError(f"{source}: its U-Net adds {added!r} to the time embedding; SDXL adds 'text_time'")
    second = _require(encoders, "text_encoder_2", source)
    pooled, total = second.config.projection_dim, config["projection_class_embeddings_input_dim"]
    width = config["addition_time_embed_dim"]
    ids = (total - pooled) / width
    if ids == 5:
        _check_width(second.config.hidden_size, config, source)
        return "refiner"
    if ids != 6:
        raise ModelError(
            f"{source}: the U-Net takes {total} added values, but {pooled} of the second text encoder and 6 (SDXL) "
            f"or 5 (refiner) time ids of {width} make {pooled + 6 * width} or {pooled + 5 * width}; the text "
            "encoder is another model's"
        )
    first = _require(encoders, "text_encoder", source)
    _check_width(first.config.hidden_size + second.config.hidden_size, config, source)
    return "sdxl"


def _require(encoders: Mapping[str, Any], name: str, source: str) -> Any:
    if encoders.get(name) is None:
        raise ModelError(f"{source}: has no {name}; give one with components={{{name!r}: folder}}")
    return encoders[name]


def _check_width(width: int, config: Mapping[str, Any], source: str) -> None:
    expected = config["cross_attention_dim"]
    if isinstance(expected, (list, tuple)):
        expected = expected[0]
    if width != expected:
        raise ModelError(
            f"{source}: the text encoding is {width} wide and the U-Net expects {expected}; they belong to "
            "different models (768: SD1, 1024: SD2, 2048: SDXL, 1280: refiner)"
        )
