"""Saying what a wrong file is, so that an error can name it. Reads bytes and key names only."""

from __future__ import annotations

import re
from collections.abc import Mapping

EXPECTED = "expected a Stable Diffusion 1.x, 2.x or XL checkpoint"

# What the names of the tensors give away, most telling first: a pattern that some key matches, and the words.
_TELLS: tuple[tuple[str, str], ...] = (
    (r"lora_up\.|lora_down\.|lora_[AB]\.|\.hada_w|\.lokr_w|lora\.(up|down)\.|\.lora_linear_layer\.", "a LoRA"),
    (r"^(image_proj|ip_adapter)\.", "an IP-Adapter"),
    (r"\.motion_modules\.|^motion_modules\.", "a motion module (AnimateDiff)"),
    (r"(^|\.)joint_blocks\.\d+\.", "a Stable Diffusion 3 checkpoint"),
    (r"(^|\.)double_blocks\.\d+\.img_attn", "a Flux checkpoint"),
    (r"(^|\.)single_transformer_blocks\.\d+\.", "a Flux transformer in diffusers layout"),
    (r"control_model\.|controlnet_cond_embedding\.|input_hint_block\.|^controlnet_down_blocks", "a ControlNet"),
    (r"^(adapter\.)?body\.\d+\.(block\d|resnets|in_conv)|^adapter\.(body|conv_in)\.", "a T2I-Adapter"),
    (r"\.time_stack\.|\.temporal_transformer", "a video model"),
    (r"(^|\.)layers\.\d+\.self_attn\.q_proj\.", "a language model"),
    (r"^(transformer\.)?h\.\d+\.attn\.|^blk\.\d+\.", "a language model"),
    (r"^model\.\d+\.(sub|weight)|RRDB_trunk|\.rdb\d\.", "an upscaler (ESRGAN)"),
    (r"^(emb_params|string_to_param|clip_[gl])$|^<.+>$", "a textual-inversion embedding"),
)
_TEXT = re.compile(r"text_model\.encoder\.layers|transformer\.resblocks\.\d+\.")
_VAE = re.compile(r"^(first_stage_model\.|vae\.)?(encoder\.(conv_in|down)|decoder\.(conv_in|up))")
_TINY_VAE = re.compile(r"^((taesd_)?(encoder|decoder)\.)?(layers\.)?\d+\.(weight|conv\.0\.weight)$")


def foreign_bytes(start: bytes) -> str | None:
    """What the first bytes of a file show it to be, if that is something else than safetensors."""
    head = start.lstrip()[:100].lower()
    if not start:
        return "empty"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of the file itself (run `git lfs pull`, or download it)"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page saved under this name (the download needed a log-in, or the address was wrong)"
    if start.startswith(b"GGUF"):
        return "a GGUF file (quantised weights of another program)"
    if start.startswith(b"PK\x03\x04") or start.startswith(b"\x80\x02"):
        return "a PyTorch pickle (or a zip archive); if you trust it, rename it to .ckpt and allow pickles"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"RIFF")):
        return "a picture"
    if head.startswith((b'{"', b"{\n", b'{ "')):
        return "a JSON text"
    return None


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a set of tensors is, in words; for error messages."""
    keys = list(shapes)
    for pattern, words in _TELLS:
        tell = re.compile(pattern)
        if any(tell.search(key) for key in keys if not (words == "a language model" and _TEXT.search(key))):
            return words
    if any(key.startswith("model.diffusion_model.") for key in keys):
        return "a diffusion model of another architecture"
    if any(key.startswith("down_blocks.") for key in keys) and "conv_in.weight" in shapes:
        return "a U-Net alone, in diffusers layout"
    if any(key.startswith("input_blocks.") for key in keys):
        return "a U-Net alone, without its prefix"
    if any(_TINY_VAE.search(key) for key in keys):
        return "a tiny VAE (TAESD) alone"
    if any(_VAE.search(key) for key in keys):
        return "a VAE alone"
    if any(_TEXT.search(key) for key in keys):
        return "a CLIP text encoder alone"
    if len(shapes) <= 2 and all(len(shape) in (1, 2) for shape in shapes.values()):
        return "a textual-inversion embedding"
    return f"nothing known (its {len(keys)} tensors begin with {keys[0]!r})" if keys else "nothing: it is empty"
