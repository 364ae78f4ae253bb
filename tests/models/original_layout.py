"""Diffusers folders written as single files in the original layout: the inverse of what loading does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPENCLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "encoder.layers": "transformer.resblocks",
}
_TEXT = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "refiner": {"text_encoder_2": "conditioner.embedders.0.model."},
}


def original_unet(weights: Weights, layers: int) -> Weights:
    """`layers` is layers_per_block."""
    crossed = {m[1] for key in weights if (m := re.match(r"up_blocks\.(\d+)\.attentions", key))}
    out: Weights = {}
    for key, tensor in weights.items():
        path, _, last = key.rpartition(".")
        if path in _UNET:
            out[f"{_UNET[path]}.{last}"] = tensor
            continue
        side, rest = key.split(".", 1)
        if side == "mid_block":
            kind, number, rest = rest.split(".", 2)
            place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
        else:
            block, kind, number, rest = rest.split(".", 3)
            first = int(block) * (layers + 1)
            if kind == "downsamplers":
                place, rest = f"input_blocks.{first + layers + 1}.0", rest.replace("conv.", "op.")
            elif kind == "upsamplers":
                place = f"output_blocks.{first + layers}.{2 if block in crossed else 1}"
            else:
                name, offset = ("input_blocks", 1) if side == "down_blocks" else ("output_blocks", 0)
                place = f"{name}.{first + offset + int(number)}.{0 if kind == 'resnets' else 1}"
        if kind == "resnets":
            head, _, end = rest.rpartition(".")
            rest = f"{_RESNET[head]}.{end}"
        out[f"{place}.{rest}"] = tensor
    return out


def original_vae(weights: Weights) -> Weights:
    levels = len({key.split(".")[2] for key in weights if key.startswith("encoder.down_blocks.")})
    out: Weights = {}
    for key, tensor in weights.items():
        if ".mid_block.attentions.0." in key:
            path, rest = key.split("mid_block.attentions.0.")
            name, _, end = rest.rpartition(".")
            key = f"{path}mid.attn_1.{_VAE_ATTENTION[name]}.{end}"
            if tensor.dim() == 2:
                tensor = tensor[..., None, None].contiguous()
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        key = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", key)
        key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", key)
        key = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", key)
        key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", key)
        out[key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")] = tensor
    return out


def original_openclip(weights: Weights, extra_layer: bool = False) -> Weights:
    """OpenCLIP's names. `extra_layer` adds the last layer and the projection that SD2 does not use."""
    weights = {key.removeprefix("text_model."): tensor for key, tensor in weights.items()}
    out: Weights = {"logit_scale": torch.tensor(4.6)}
    for key, tensor in weights.items():
        if key == "text_projection.weight":
            out["text_projection"] = tensor.T.contiguous()
        elif m := re.match(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", key):
            joined = torch.cat([weights[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            out[f"transformer.resblocks.{m[1]}.attn.in_proj_{m[2]}"] = joined
        elif not re.search(r"self_attn\.[kv]_proj", key):
            for new, old in _OPENCLIP.items():
                key = key.replace(new, old)
            out[key] = tensor
    if extra_layer:
        layers = 1 + max(int(key.split(".")[2]) for key in out if key.startswith("transformer.resblocks."))
        for key in [key for key in out if key.startswith("transformer.resblocks.0.")]:
            out[key.replace(".0.", f".{layers}.", 1)] = torch.randn_like(out[key])
        width = out["token_embedding.weight"].shape[1]
        out["text_projection"] = torch.randn(width, width)
    return out


def original_state(folder: Path, family: str) -> Weights:
    """All tensors of a diffusers folder under the keys of the original layout."""
    state: Weights = {}
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    unet = original_unet(load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"), layers)
    state |= {"model.diffusion_model." + key: tensor for key, tensor in unet.items()}
    vae = original_vae(load_file(folder / "vae" / "diffusion_pytorch_model.safetensors"))
    state |= {"first_stage_model." + key: tensor for key, tensor in vae.items()}
    for name, prefix in _TEXT[family].items():
        text = load_file(folder / name / "model.safetensors")
        if prefix.endswith("model."):
            text = original_openclip(text, extra_layer=family == "sd2")
        else:
            positions = text["text_model.embeddings.position_embedding.weight"].shape[0]
            text["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
        state |= {prefix + key: tensor for key, tensor in text.items()}
    return state


def save_single_file(
    folder: Path,
    family: str,
    path: Path,
    *,
    metadata: dict[str, str] | None = None,
    extra: Weights | None = None,
    dtype: torch.dtype | None = None,
    drop: tuple[str, ...] = (),
) -> Path:
    """Write a diffusers folder as one file; `drop` are prefixes of keys to leave out."""
    state = original_state(folder, family) | (extra or {})
    state = {key: tensor for key, tensor in state.items() if not key.startswith(drop or ("\0",))}
    if dtype is not None:
        state = {k: t.to(dtype) if t.is_floating_point() else t for k, t in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata=metadata)
    return path
