"""Models in diffusers' folder layout: one folder for each component, and model_index.json above them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcore.errors import ModelError

from .build import build
from .checkpoint import read_weights
from .place import Place
from .weight_files import find_weights

NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
TOKENIZERS = ("tokenizer", "tokenizer_2")
_KINDS = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}


@dataclass
class Parts:
    """What was read so far: networks and tokenizers by name, and all that comes with them.

    `unscaled_vae` says that the VAE's file does not tell by which factor its latents are scaled.
    """

    components: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    unscaled_vae: bool = False


def read_folder(top: Path, place: Place, given: Collection[str]) -> Parts:
    """The components of a folder, but for those that are given.

    Raises:
        ModelError: it is not the folder of a model that sdcore runs, or a component is missing or damaged.
    """
    index = _read_index(top)
    parts = Parts(config={k: v for k, v in index.items() if k[0] != "_" and not isinstance(v, list)})
    for name in (*NETWORKS, *TOKENIZERS):
        entry = index.get(name)
        if name in given or not isinstance(entry, list) or entry[0] is None:
            continue
        if name in TOKENIZERS:
            parts.components[name] = read_tokenizer(top / name)
        else:
            parts.components[name], parts.files[name] = read_component(name, top / name, place)
    for name in ("unet", "vae"):
        if name not in given and name not in parts.components:
            raise ModelError(
                f"{top}: a folder of {index.get('_class_name', 'an unknown pipeline')}, without {name}; sdcore "
                "runs Stable Diffusion 1.x, 2.x and XL"
            )
    if "scheduler" not in given:
        parts.scheduler_config = read_scheduler(top / "scheduler")
    if (top / "sdcore.json").is_file():
        parts.defaults = _object(read_json(top / "sdcore.json").get("defaults", {}), top / "sdcore.json")
    return parts


def read_component(name: str, folder: Path, place: Place) -> tuple[Any, tuple[Path, ...]]:
    """One network from its folder, and the files that it was read from.

    Raises:
        ModelError: the folder is missing, holds another class, or its weights are missing or do not fit.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: the folder of {name} is missing; was the download complete?")
    config = read_json(folder / "config.json")
    stated = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    kind = stated or _KINDS[name][0]
    if kind not in _KINDS[name]:
        raise ModelError(f"{folder}: a {kind}; as {name} sdcore takes {' or '.join(_KINDS[name])}")
    files = find_weights(folder, place.allow_pickle)
    weights: dict[str, Any] = {}
    for path in files:
        weights |= read_weights(path, place.allow_pickle)[0]
    return build(kind, config, weights, place, str(folder)), files


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        ModelError: it is missing or cannot be read.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(f"{folder}: no tokenizer (expected tokenizer.json, or vocab.json and merges.txt)")
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{folder}: the tokenizer cannot be read ({type(error).__name__}: {error})") from error


def read_scheduler(folder: Path) -> dict[str, Any]:
    """The configuration of a scheduler, "_class_name" included.

    Raises:
        ModelError: it is missing or does not name its class.
    """
    path = folder / "scheduler_config.json" if folder.is_dir() or not folder.suffix else folder
    config = read_json(path)
    if "_class_name" not in config:
        raise ModelError(f"{path}: does not say which scheduler it is for ('_class_name' is missing)")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: there is none.
    """
    try:
        return _object(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); was the download complete?") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from error


def _object(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected an object in braces, not {type(content).__name__}")
    return content


def _read_index(top: Path) -> dict[str, Any]:
    path = top / "model_index.json"
    if path.is_file():
        return read_json(path)
    inside = sorted(entry.name for entry in top.iterdir())
    if "adapter_config.json" in inside or "pytorch_lora_weights.safetensors" in inside:
        what = "the folder of a LoRA"
    elif "config.json" in inside:
        config = read_json(top / "config.json")
        name = config.get("_class_name") or next(iter(config.get("architectures") or ("a model",)), "a model")
        what = f"the folder of one component ({name}); name the folder above it, or use it in components="
    elif any(name.endswith((".safetensors", ".ckpt")) for name in inside):
        what = "a folder of files; name the .safetensors file itself"
    else:
        what = f"a folder with {', '.join(inside[:4]) or 'nothing in it'}"
    raise ModelError(f"{top}: no model_index.json, so not a diffusers model: it looks like {what}")
