"""How much a value was changed: squares of norms, so that they add up over calls and steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any

Squares = tuple[float, float]
"""(|new - old|^2, |old|^2)."""

UNCHANGED: Squares = (0.0, 0.0)


def difference(old: Any, new: Any) -> Squares | None:
    """Squares of the Euclidean norms of the change and of what was there; None where the two do not compare.

    Tensors and pictures compare if their shapes are the same; numbers, tuples, mappings and dataclasses by their
    items, of which only those that changed count. Text changes by 1 minus the share of it that was kept.
    """
    if new is old:
        return UNCHANGED
    if old is None:
        return size_of(new)
    if isinstance(old, str) and isinstance(new, str):
        return (1 - SequenceMatcher(None, old, new, autojunk=False).ratio()) ** 2, 1.0
    if isinstance(old, int | float) and isinstance(new, int | float):
        return float(new - old) ** 2, float(old) ** 2
    if hasattr(old, "_version") or hasattr(old, "tobytes"):
        return _arrays(old, new)
    if isinstance(old, tuple) and isinstance(new, tuple):
        return _total(difference(a, b) for a, b in zip(old, new, strict=True)) if len(old) == len(new) else None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _total(difference(old.get(name), value) for name, value in new.items())
    if is_dataclass(old) and type(new) is type(old):
        names = [field.name for field in fields(old)]
        changed = [(getattr(old, name), getattr(new, name)) for name in names]
        return _total(difference(a, b) for a, b in changed if a is not b and not callable(b))
    return None


def size_of(value: Any) -> Squares | None:
    """What is new where nothing was: all of it is change, and there is nothing to relate it to."""
    if hasattr(value, "_version"):
        return square(value), 0.0
    if isinstance(value, tuple):
        return _total(map(size_of, value))
    return None


def square(tensor: Any) -> float:
    """The squared norm of a tensor, summed in float32 whatever its dtype."""
    import torch

    if not tensor.is_floating_point():
        tensor = tensor.float()
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float32).item()) ** 2


def _arrays(old: Any, new: Any) -> Squares | None:
    if hasattr(old, "_version"):
        if getattr(new, "shape", None) != old.shape or not hasattr(new, "_version"):
            return None
        return square(new.float() - old.float()), square(old)
    import numpy as np

    before, after = (np.asarray(picture, dtype=np.float32) for picture in (old, new))
    if before.shape != after.shape:
        return None
    return float(np.square(after - before).sum()), float(np.square(before).sum())


def _total(items: Iterable[Squares | None]) -> Squares | None:
    change = size = 0.0
    for item in items:
        if item is None:
            return None
        change, size = change + item[0], size + item[1]
    return change, size
