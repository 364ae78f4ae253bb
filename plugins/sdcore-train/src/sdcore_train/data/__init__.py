"""The pictures of a training and their captions: sources, buckets, order, caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import DataError

if TYPE_CHECKING:
    from .dataset import Data as Data
    from .latents import LatentCache as LatentCache
    from .text_memory import TextMemory as TextMemory

_HOME = {"Data": "dataset", "LatentCache": "latents", "TextMemory": "text_memory"}

__all__ = ["Data", "DataError", "LatentCache", "TextMemory"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'sdcore_train.data' has no attribute {name!r}")
