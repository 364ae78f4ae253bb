"""Weight files: checked by their header, and mapped into memory without copying."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.errors import ModelError

from .identify import foreign_bytes

if TYPE_CHECKING:
    import torch

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
_LARGEST_HEADER = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself: the shape of each tensor, and free text."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of a safetensors file, without its tensors.

    Raises:
        ModelError: the file is missing, empty, truncated, or something else; the message says what.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(512)
            length = int.from_bytes(start[:8], "little")
            what = foreign_bytes(start)
            if what is not None:
                raise ModelError(f"{path}: {what}, not a safetensors file")
            if size < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise ModelError(
                    f"{path}: not a safetensors file, or cut off in its header: the header should have "
                    f"{length} bytes and the file has {size}. Download it again."
                )
            stream.seek(8)
            content: Any = json.loads(stream.read(length))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a safetensors file: its header is not JSON. Download it again.") from error
    try:
        metadata = {str(key): str(value) for key, value in content.pop("__metadata__", {}).items()}
        shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in content.items()}
        end = max((int(entry["data_offsets"][1]) for entry in content.values()), default=0)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file: its header does not list tensors") from error
    if size != 8 + length + end:
        state = "truncated" if size < 8 + length + end else "longer than its header says"
        raise ModelError(f"{path}: {state}: {size} of {8 + length + end} bytes. Download it again.")
    if not shapes:
        raise ModelError(f"{path}: holds no tensors")
    return Header(shapes, metadata)


def is_pickle(path: Path) -> bool:
    """Whether a file is one of PyTorch's pickles, by its name."""
    return path.suffix.lower() in PICKLES


def read_weights(path: Path, allow_pickle: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file by key, mapped into memory, and its metadata.

    Raises:
        ModelError: it is not a whole weight file, or it is a pickle and those are not allowed.
    """
    if is_pickle(path):
        if not allow_pickle:
            raise ModelError(
                f"{path}: a pickle, which can run code when it is read; sdcore reads .safetensors. If you trust "
                "its source, pass allow_pickle=True: only plain tensors are then accepted."
            )
        return _read_pickle(path), {}
    header = read_header(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            return {key: stream.get_tensor(key) for key in stream.keys()}, header.metadata  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path}: not a valid safetensors file ({error}). Download it again.") from error


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    import torch

    if not path.is_file() or path.stat().st_size == 0:
        raise ModelError(f"{path}: {'empty' if path.is_file() else 'no such file'}")
    with path.open("rb") as stream:
        what = foreign_bytes(stream.read(512))
    if what is not None and "pickle" not in what:
        raise ModelError(f"{path}: {what}, not a checkpoint")
    try:
        try:
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format from before PyTorch 1.6 cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, and sdcore runs no code from a file. Convert it to .safetensors "
            "in a place that you can throw away."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(f"{path}: truncated, or not a checkpoint ({error})") from error
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__} instead of tensors by name")
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
