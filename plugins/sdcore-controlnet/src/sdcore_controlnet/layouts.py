"""Layouts of single files: names of tensors as files have them, and as the classes of diffusers have them.

Only names are changed, never a value. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

CONTROL_PREFIX = "control_model."
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_PLAIN = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block_out.0": "controlnet_mid_block",
}


def original_controlnet_keys(keys: Iterable[str]) -> dict[str, str]:
    """Names of a ControlNet in the original layout (lllyasviel's cldm, SD1, SD2 and SDXL) to those of diffusers.

    Args:
        keys: of the file, with "control_model." before them or not; those of other parts are left out.

    Raises:
        KeyError: a name that no such net has.
    """
    keys = list(keys)
    prefix = CONTROL_PREFIX if any(key.startswith(CONTROL_PREFIX) for key in keys) else ""
    own = {key: key.removeprefix(prefix) for key in keys if key.startswith(prefix)}
    downs = sorted(int(m[1]) for name in own.values() if (m := re.match(r"input_blocks\.(\d+)\.0\.op\.weight", name)))
    blocks = {int(m[1]) for name in own.values() if (m := re.match(r"input_blocks\.(\d+)\.", name))}
    layers = (downs[0] if downs else len(blocks)) - 1
    hints = sorted({int(m[1]) for name in own.values() if (m := re.match(r"input_hint_block\.(\d+)\.", name))})
    return {key: _renamed(name, layers, hints) for key, name in own.items()}


def _renamed(name: str, layers: int, hints: list[int]) -> str:
    stem, _, last = name.rpartition(".")
    if stem in _PLAIN:
        return f"{_PLAIN[stem]}.{last}"
    if m := re.fullmatch(r"zero_convs\.(\d+)\.0", stem):
        return f"controlnet_down_blocks.{m[1]}.{last}"
    if m := re.fullmatch(r"input_hint_block\.(\d+)", stem):
        place = hints.index(int(m[1]))
        inner = "conv_in" if place == 0 else "conv_out" if place == len(hints) - 1 else f"blocks.{place - 1}"
        return f"controlnet_cond_embedding.{inner}.{last}"
    if m := re.fullmatch(r"input_blocks\.(\d+)\.0\.op", stem):
        return f"down_blocks.{(int(m[1]) - 1) // (layers + 1)}.downsamplers.0.conv.{last}"
    if m := re.fullmatch(r"input_blocks\.(\d+)\.0\.(.+)", stem):
        block, layer = divmod(int(m[1]) - 1, layers + 1)
        return f"down_blocks.{block}.resnets.{layer}.{_RESNET[m[2]]}.{last}"
    if m := re.fullmatch(r"input_blocks\.(\d+)\.1\.(.+)", stem):
        block, layer = divmod(int(m[1]) - 1, layers + 1)
        return f"down_blocks.{block}.attentions.{layer}.{m[2]}.{last}"
    if m := re.fullmatch(r"middle_block\.([02])\.(.+)", stem):
        return f"mid_block.resnets.{int(m[1]) // 2}.{_RESNET[m[2]]}.{last}"
    if m := re.fullmatch(r"middle_block\.1\.(.+)", stem):
        return f"mid_block.attentions.0.{m[1]}.{last}"
    raise KeyError(name)


def original_adapter_keys(keys: Iterable[str], per_block: int = 2) -> dict[str, str]:
    """Names of a T2I-Adapter in TencentARC's layout to those of diffusers.

    The full adapter has its residual blocks in one row, ``per_block`` to a level; the light one has them nested.
    As scripts/convert_original_t2i_adapter.py of diffusers does.

    Raises:
        KeyError: a name that no such net has.
    """
    keys = list(keys)
    light = any(key.startswith("body.0.in_conv.") for key in keys)
    renamed = {}
    for key in keys:
        if m := re.fullmatch(r"body\.(\d+)\.body\.(\d+)\.(block[12]\.\w+)", key):
            renamed[key] = f"adapter.body.{m[1]}.resnets.{m[2]}.{m[3]}"
        elif light and re.fullmatch(r"body\.\d+\.(in|out)_conv\.\w+", key):
            renamed[key] = f"adapter.{key}"
        elif m := re.fullmatch(r"body\.(\d+)\.in_conv\.(\w+)", key):
            renamed[key] = f"adapter.body.{int(m[1]) // per_block}.in_conv.{m[2]}"
        elif m := re.fullmatch(r"body\.(\d+)\.(block[12]\.\w+)", key):
            block, layer = divmod(int(m[1]), per_block)
            renamed[key] = f"adapter.body.{block}.resnets.{layer}.{m[2]}"
        elif re.fullmatch(r"conv_in\.\w+", key):
            renamed[key] = f"adapter.{key}"
        else:
            raise KeyError(key)
    return renamed


def rename(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Values under their new names, without those that have none."""
    return {new: values[old] for old, new in names.items()}
