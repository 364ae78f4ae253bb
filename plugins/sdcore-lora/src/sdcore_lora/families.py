"""For which family a LoRA file is, from shapes and names."""

from __future__ import annotations

from collections.abc import Iterable

from .contents import Contents, Layer

WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL", 1280: "the SDXL refiner"}
"""Width of the context of cross-attention in the published models."""

_OTHERS = (
    ("double_blocks", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("transformer_blocks_0_attn_add_k_proj", "Stable Diffusion 3"),
    ("transformer.transformer_blocks", "a diffusion transformer (Flux, Stable Diffusion 3 or Qwen)"),
    ("prior_", "Stable Cascade"),
    ("motion_modules", "a motion module (AnimateDiff)"),
    ("oft_", "OFT"),
    ("self_attn.q_proj", "a language model or text encoder"),
    ("blocks.0.", "a video or transformer model"),
)


def context_width(layers: Iterable[Layer]) -> int | None:
    """How wide the text is that the file's cross-attention reads."""
    for layer in layers:
        if layer.component == "unet" and layer.module.endswith((".attn2.to_k", ".attn2.to_v")) and layer.shape:
            return layer.shape[1]
    return None


def family_of(contents: Contents) -> str:
    """For which family a file is, in words: "SD1", "SDXL", or what can be said of it."""
    width = context_width(contents.layers)
    if width in WIDTHS:
        return WIDTHS[width]
    other = foreign(contents)
    if other and not contents.layers:
        return other
    if width is not None:
        return f"a model whose text is {width} wide"
    text = {layer.component for layer in contents.layers if layer.component != "unet"}
    if "text_encoder_2" in text:
        return "SDXL"
    widths = {layer.shape[1] for layer in contents.layers if layer.module.endswith(".self_attn.q_proj") and layer.shape}
    named = {768: "SD1 or SDXL", 1024: "SD2", 1280: "SDXL"}
    found = sorted(named[width] for width in widths & named.keys())
    return found[0] if found else "an unknown model"


def foreign(contents: Contents) -> str | None:
    """What the keys that nobody knows look like, if they look like something."""
    for sign, words in _OTHERS:
        if any(sign in key for key in contents.unknown):
            return words
    return None
