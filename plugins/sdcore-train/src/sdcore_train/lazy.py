"""Modules that need torch, for modules that plugins of the engine import when it starts: loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .losses import functions as losses
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self._name, __package__), name)

    losses = _Lazy(".losses.functions")

__all__ = ["losses"]
