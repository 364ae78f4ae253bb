"""Where the parameters of a U-Net and its text encoders are in a checkpoint's file. Text only.

A file in diffusers layout has each under its own name; the original layout has other names, and OpenCLIP keeps
query, key and value of an attention in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .names import from_original

UNET = "model.diffusion_model."
TEXT = (  # prefix, component, whose layout
    ("conditioner.embedders.0.transformer.", "text_encoder", "openai"),
    ("conditioner.embedders.1.model.", "text_encoder_2", "openclip"),
    ("conditioner.embedders.0.model.", "text_encoder_2", "openclip"),  # the refiner
    ("cond_stage_model.transformer.", "text_encoder", "openai"),
    ("cond_stage_model.model.", "text_encoder", "openclip"),
)
_OPENCLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
_OPENCLIP_OUTSIDE = {
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
}


@dataclass(frozen=True)
class Place:
    """A parameter in a tensor of a file.

    Attributes:
        component: "unet", "text_encoder" or "text_encoder_2".
        parameter: its name in diffusers or transformers, without "text_model.".
        rows: which third of the tensor it is, or None for all of it.
        turned: whether the file has it transposed.
    """

    component: str
    parameter: str
    rows: int | None = None
    turned: bool = False


def in_folder(component: str, key: str) -> Iterator[Place]:
    """Places in a file of a diffusers folder."""
    yield Place(component, key if component == "unet" else key.removeprefix("text_model."))


def in_single_file(key: str, layers: int) -> Iterator[Place]:
    """Places in a single file of the original layout; none for what is neither U-Net nor text encoder."""
    if key.startswith(UNET):
        module, _, last = key.removeprefix(UNET).rpartition(".")
        found = from_original(module, layers)
        if found is not None:
            yield Place("unet", f"{found}.{last}")
        return
    for prefix, component, layout in TEXT:
        if key.startswith(prefix):
            rest = key.removeprefix(prefix)
            if layout == "openai":
                yield Place(component, rest.removeprefix("text_model."))
            else:
                yield from _openclip(component, rest)
            return


def _openclip(component: str, key: str) -> Iterator[Place]:
    if key in _OPENCLIP_OUTSIDE:
        yield Place(component, _OPENCLIP_OUTSIDE[key], turned=key == "text_projection")
        return
    found = re.match(r"transformer\.resblocks\.(\d+)\.(.+)", key)
    if found is None:
        return
    layer, inside = f"encoder.layers.{found[1]}", found[2]
    if inside.startswith("attn.in_proj_"):
        last = inside.removeprefix("attn.in_proj_")
        for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
            yield Place(component, f"{layer}.self_attn.{name}.{last}", third)
        return
    module, _, last = inside.rpartition(".")
    if module in _OPENCLIP:
        yield Place(component, f"{layer}.{_OPENCLIP[module]}.{last}")
