"""LoRA and its relatives for sdcore: ``use=[LoRA(path="style.safetensors", weight=0.8)]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import LoRA
from .plugin import LoRAPlugin

if TYPE_CHECKING:
    from .extracting import extract as extract
    from .merging import merge as merge
    from .reading import read_lora as read_lora
    from .saving import save_lora as save_lora
    from .training.options import TrainLoRA as TrainLoRA

_HOME = {
    "TrainLoRA": "training.options",
    "extract": "extracting",
    "merge": "merging",
    "read_lora": "reading",
    "save_lora": "saving",
}

__all__ = ["LoRA", "LoRAPlugin", "TrainLoRA", "extract", "merge", "read_lora", "save_lora"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'sdcore_lora' has no attribute {name!r}")
