"""What tests of sdcore and of its plugins use. Nothing of it is needed to make a picture."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance.base import PluginConformance as PluginConformance
    from .conformance.case import Case as Case
    from .conformance.setting import Setting as Setting

_HOME = {"Case": "case", "PluginConformance": "base", "Setting": "setting"}

__all__ = ["Case", "PluginConformance", "Setting"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".conformance.{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'sdcore.testing' has no attribute {name!r}")
