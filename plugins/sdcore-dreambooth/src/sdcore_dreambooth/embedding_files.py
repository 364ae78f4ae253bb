"""Files of textual inversion: the layouts of AUTOMATIC1111 and ComfyUI, and that of diffusers.

One word for one text encoder is a single tensor: ``emb_params`` (AUTOMATIC1111), or the word itself as its name
(diffusers). For SDXL a file has ``clip_l`` and ``clip_g`` (both of the former); diffusers reads two files with the
word as name. Old files are pickles with ``string_to_param`` and ``name``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdcore import ModelError
from sdcore.files import write_atomic

from .packing import packed

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["a1111", "diffusers"]
KINDS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
"""What the text encoders of SDXL are called in files."""
_SINGLE = ("emb_params", "string_to_param.*", "*")
_PICKLES = (".pt", ".bin", ".pth", ".ckpt")


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a file holds: the word that it names, or None, and vectors (places, width) by kind ("" if it says none)."""

    word: str | None
    vectors: Mapping[str, Tensor]


def save_embedding(path: Path, word: str, vectors: Mapping[str, Tensor], layout: Layout = "a1111") -> list[Path]:
    """Write a word.

    Args:
        path: of the file, ``.safetensors``. With the layout of diffusers and two encoders, each gets a file of its
            own, the encoder's name before the suffix.
        word: the word.
        vectors: (places, width) by text encoder, ``text_encoder`` or ``text_encoder_2``.
        layout: whose.

    Returns:
        The files.
    """
    plain = {name: value.detach().float().cpu().contiguous() for name, value in vectors.items()}
    about = {"word": word, "vectors": str(max(len(value) for value in plain.values()))}
    if layout == "a1111":
        named = {KINDS[name]: value for name, value in plain.items()} if len(plain) > 1 else None
        tensors = named or {"emb_params": next(iter(plain.values()))}
        return [write_atomic(path, packed(tensors, about), overwrite=True)]
    files = []
    for name, value in plain.items():
        target = path if len(plain) == 1 else path.with_suffix(f".{name}{path.suffix}")
        content = packed({word: value}, {**about, "text_encoder": name})
        files.append(write_atomic(target, content, overwrite=True))
    return files


def read_embedding(path: Path, *, allow_pickle: bool = False) -> Embedding:
    """Read a word's file.

    Args:
        path: ``.safetensors``; or ``.pt`` and ``.bin``, if that is allowed: only tensors are taken from them.

    Raises:
        ModelError: it is not there, damaged, or no file of textual inversion.
    """
    content, about = _content(path, allow_pickle)
    return make_sense(content, about, path)


def make_sense(content: Mapping[str, Any], about: Mapping[str, str], path: Path) -> Embedding:
    """What the content of a file means."""
    word = about.get("word")
    inner = content.get("string_to_param")
    if isinstance(inner, Mapping):
        name = content.get("name")
        return Embedding(word or (name if isinstance(name, str) else None), {"": _vectors(inner.get("*"), path)})
    kinds = {kind: content[kind] for kind in KINDS.values() if kind in content}
    if kinds:
        return Embedding(word, {kind: _vectors(value, path) for kind, value in kinds.items()})
    if len(content) != 1:
        some = ", ".join(sorted(content)[:4])
        raise ModelError(
            f"{path}: is no file of textual inversion: it has {len(content)} tensors ({some}, ...), and such a file "
            "has emb_params, clip_l and clip_g, or one that is named like the word"
            + ("; it may be a LoRA: use lora:path=..." if any("lora" in key for key in content) else "")
        )
    [(key, value)] = content.items()
    kind = KINDS.get(about.get("text_encoder", ""), "")
    return Embedding(word or (None if key in _SINGLE else key), {kind: _vectors(value, path)})


def _vectors(value: Any, path: Path) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor) or value.ndim not in (1, 2) or not value.numel():
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ModelError(f"{path}: is no file of textual inversion: it has {shape} where (places, width) is needed")
    if not value.is_floating_point() or not bool(value.isfinite().all()):
        raise ModelError(f"{path}: its vectors hold NaN, infinity or whole numbers; the file is damaged")
    return value.reshape(-1, value.shape[-1]).float()


def _content(path: Path, allow_pickle: bool) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if path.suffix.lower() in _PICKLES:
        if not allow_pickle:
            raise ModelError(
                f"{path}: is a pickle; convert it to .safetensors, or set allow_pickle (only tensors are taken from it)"
            )
        return _pickle(path), {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); is it complete?") from error


def _pickle(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: holds more than tensors, or is damaged; it was not read ({error})") from error
    if isinstance(content, torch.Tensor):
        return {"emb_params": content}
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: is no file of textual inversion: it holds a {type(content).__name__}")
    return content
