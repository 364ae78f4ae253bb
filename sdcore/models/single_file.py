"""Models in one file, in the original layout of CompVis and Stability AI, without a hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcore.errors import ModelError

from . import prediction, shapes, templates
from .build import build
from .checkpoint import read_weights
from .folder import Parts
from .identify import EXPECTED, looks_like
from .place import Place
from .shapes import shapes_of
from .single_file_text import make_tokenizer, read_text_encoder

UNET = "model.diffusion_model."
VAE = ("first_stage_model.", "vae.")
_FIRST = UNET + "input_blocks.0.0.weight"
_ADDED = UNET + "label_emb.0.0.weight"


def read_single_file(path: Path, place: Place, given: Mapping[str, Any]) -> Parts:
    """The components of a checkpoint, but for those that are given.

    Raises:
        ModelError: it is something else, lacks a component, or is damaged.
    """
    weights, metadata = read_weights(path, place.allow_pickle)
    family = find_family(weights, path)
    parts = Parts(config=dict(templates.PIPELINE[family]))
    pooled: int | None = None
    for name, prefix, layout in templates.TEXT_ENCODERS[family]:
        if name in given:
            encoder = given[name]
        else:
            encoder = read_text_encoder(weights, name, prefix, layout, family, place, path)
            parts.components[name], parts.files[name] = encoder, (path,)
        pooled = int(encoder.config.projection_dim)
        tokenizer = name.replace("text_encoder", "tokenizer")
        if tokenizer not in given:
            parts.components[tokenizer] = make_tokenizer(encoder, name, layout, path)
    if "unet" not in given:
        parts.components["unet"] = read_unet(weights, family, pooled, place, path)
        parts.files["unet"] = (path,)
    if "vae" not in given:
        parts.components["vae"] = read_vae(weights, family, place, path)
        parts.files["vae"] = (path,)
    stated = prediction.from_markers(weights, metadata)
    parts.scheduler_config = templates.SCHEDULER[family] | stated
    unet: Any = parts.components["unet"] if "unet" in parts.components else given["unet"]
    if family == "sd2" and "prediction_type" not in stated and unet.config.in_channels == unet.config.out_channels:
        parts.scheduler_config["prediction_type"] = prediction.probe(unet)
    return parts


def find_family(weights: Mapping[str, Any], path: Path) -> str:
    """The family of a checkpoint, from the names and shapes of its tensors.

    Raises:
        ModelError: it is not one that sdcore runs; the message says what it looks like.
    """
    by_key = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    projection = next((s for k, s in by_key.items() if k.startswith(UNET) and k.endswith("proj_in.weight")), None)
    if _FIRST not in by_key or projection is None or any(".time_stack." in key for key in by_key):
        raise ModelError(f"{path}: looks like {looks_like(by_key)}; {EXPECTED}")
    for marker, words in (
        ("edm_mean", "Playground 2.5, which is trained in another noise space (EDM)"),
        ("edm_vpred.sigma_max", "CosXL, which is trained in another noise space (EDM)"),
        (UNET + "label_emb.weight", "an upscaler (x4)"),
    ):
        if marker in by_key:
            raise ModelError(f"{path}: looks like {words}; {EXPECTED}")
    if _ADDED not in by_key:
        return "sd2" if len(projection) == 2 else "sd1"
    if any(key.startswith("cond_stage_model.") for key in by_key):
        raise ModelError(f"{path}: looks like an unCLIP model; {EXPECTED}")
    if any(key.startswith("conditioner.embedders.1.") for key in by_key):
        return "sdxl"
    if any(key.startswith("conditioner.embedders.0.model.") for key in by_key):
        return "refiner"
    # No text encoders in the file. The refiner's text is as wide as its pooled text.
    context = next(shape for key, shape in by_key.items() if key.endswith("attn2.to_k.weight"))
    return "refiner" if by_key[_ADDED][1] - context[1] == 5 * 256 else "sdxl"


def read_unet(weights: Mapping[str, Any], family: str, pooled: int | None, place: Place, path: Path) -> Any:
    """The U-Net of a checkpoint; `pooled` is the width of the pooled text that SDXL adds to the time, if known.

    Raises:
        ModelError: its tensors make no U-Net.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    own = {key: tensor for key, tensor in weights.items() if key.startswith(UNET)}
    downs = [int(m[1]) for key in own if (m := re.match(UNET + r"input_blocks\.(\d+)\.0\.op\.weight", key))]
    blocks = {int(m[1]) for key in own if (m := re.match(UNET + r"input_blocks\.(\d+)\.", key))}
    hint = {
        "layers_per_block": (min(downs) if downs else len(blocks)) - 1,
        "addition_embed_type": "text_time" if _ADDED in own else None,
    }
    try:
        converted = convert_ldm_unet_checkpoint(own, hint)
        ids = 5 if family == "refiner" else 6
        width = 256 if pooled is None or _ADDED not in own else (own[_ADDED].shape[1] - pooled) // ids
        config = shapes.unet_config(shapes_of(converted), family, width)
    except (KeyError, StopIteration, IndexError) as error:
        raise ModelError(f"{path}: its U-Net is not complete ({error} is missing)") from error
    return build("UNet2DConditionModel", config, converted, place, f"{path} (U-Net)")


def read_vae(weights: Mapping[str, Any], family: str, place: Place, path: Path) -> Any:
    """The VAE of a checkpoint, or of a file that holds a VAE alone, in the original or in diffusers layout.

    Raises:
        ModelError: there is none, or its tensors make none.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    prefix = next((p for p in VAE if any(key.startswith(p) for key in weights)), "")
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if "decoder.conv_in.weight" not in own:
        raise ModelError(
            f"{path}: has no VAE (it looks like {looks_like(shapes_of(weights))}); give one with "
            "components={'vae': folder or file}"
        )
    try:
        if not any(key.startswith("encoder.down_blocks.") for key in own):
            levels = {int(m[1]) for key in own if (m := re.match(r"encoder\.down\.(\d+)\.", key))}
            hint = {name: [None] * len(levels) for name in ("down_block_types", "up_block_types")}
            own = convert_ldm_vae_checkpoint(own, hint)
        config = shapes.vae_config(shapes_of(own), family)
    except (KeyError, StopIteration, IndexError) as error:
        raise ModelError(f"{path}: its VAE is not complete ({error} is missing)") from error
    return build("AutoencoderKL", config, own, place, f"{path} (VAE)")
