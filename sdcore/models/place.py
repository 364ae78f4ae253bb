"""Where the weights of a model go, and in which type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcore.errors import ModelError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """Where weights go and in which type, and whether pickles may be read on the way."""

    device: torch.device
    dtype: torch.dtype
    allow_pickle: bool = False


def choose_place(device: Any, dtype: Any, allow_pickle: bool) -> Place:
    """The place that a caller asked for: by default CUDA in float16 if there is CUDA, else the CPU in float32.

    Raises:
        ModelError: there is no such device or type.
    """
    import torch

    try:
        where = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError as error:
        raise ModelError(f"device is {device!r}; expected one such as 'cpu' or 'cuda'") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device is {device!r}, and PyTorch finds no CUDA device here; use device='cpu'")
    if dtype is None:
        dtype = torch.float16 if where.type == "cuda" else torch.float32
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ModelError(f"dtype is {dtype!r}; expected 'float32', 'float16' or 'bfloat16'")
    return Place(where, kind, allow_pickle)
