"""Invisible watermarks for sdcore."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .detection import Detection as Detection
    from .keys import Key as Key
    from .options import Watermark as Watermark
    from .plugin import WatermarkPlugin as WatermarkPlugin
    from .schemes import Marked as Marked
    from .schemes import WatermarkScheme as WatermarkScheme
    from .schemes import detect as detect
    from .schemes import embed as embed
    from .schemes import mark as mark

_HOME = {
    "Detection": "detection",
    "Key": "keys",
    "Marked": "schemes",
    "Watermark": "options",
    "WatermarkPlugin": "plugin",
    "WatermarkScheme": "schemes",
    "detect": "schemes",
    "detect_latent": "latent.detecting",
    "embed": "schemes",
    "mark": "schemes",
}

__all__ = [*sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
