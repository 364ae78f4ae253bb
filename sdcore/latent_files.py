"""Latents as files: safetensors with one tensor, ``latents``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor


def encode_latents(latents: Tensor) -> bytes:
    """The bytes of a file with latents (pictures, channels, height, width)."""
    from safetensors.torch import save

    data: bytes = save({"latents": latents.detach().cpu().contiguous()})
    return data


def read_latents(path: str | os.PathLike[str]) -> Tensor:
    """Read latents back.

    Raises:
        ImageError: it is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        latents: Tensor = load_file(Path(path))["latents"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ImageError(f"{path}: no latents can be read from it ({type(error).__name__}: {error})") from error
    return latents
