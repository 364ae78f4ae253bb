"""Families: how text becomes conditioning, and the defaults of each. One small file a family."""

from __future__ import annotations

from sdcore.errors import ModelError

from .base import Family
from .refiner import Refiner
from .sd1 import SD1
from .sd2 import SD2
from .sdxl import SDXL

FAMILIES: dict[str, Family] = {family.name: family for family in (SD1(), SD2(), SDXL(), Refiner())}

__all__ = ["FAMILIES", "Family", "family_of"]


def family_of(name: str) -> Family:
    """The family of a loaded model, by its name."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise ModelError(f"there is no family {name!r}; known: {', '.join(FAMILIES)}") from None
