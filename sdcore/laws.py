"""Laws: what a port demands of what its stages give, as plain functions.

A law takes what a stage was given and what it gave, and says what is wrong, or None. For a chain or a sum the
first argument is the value so far, for an around stage it is the arguments that the stage was called with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

Law = Callable[[Any, Any], str | None]


def describe(value: Any) -> str:
    """A value in an error: a tensor by shape, dtype and device, anything else by its type."""
    if not hasattr(value, "shape"):
        return type(value).__name__
    return f"{tuple(value.shape)} {value.dtype} on {value.device}"


# What of a type's values can be changed in place: "" the value itself, names its fields, None nothing.
_CHANGEABLE: dict[type, str | tuple[str, ...] | None] = {}


def stamp(value: Any) -> Any:
    """Something that differs once a tensor, or one in a stage's argument, was changed in place."""
    kind = type(value)
    try:
        names = _CHANGEABLE[kind]  # one look-up: this is called for every argument of every stage
    except KeyError:
        names = _CHANGEABLE[kind] = "" if hasattr(value, "_version") else getattr(value, "tensor_fields", None) or None
    if names is None:
        return [stamp(item) for item in value.values()] if kind is dict else None
    try:
        if names == "":
            return value._version
        return [getattr(getattr(value, name), "_version", None) for name in names]
    except RuntimeError:  # tensors made under torch.inference_mode() do not count their changes
        return None


def same(old: Any, new: Any) -> str | None:
    """The law of a chain: the same type; for tensors the same shape, dtype and device."""
    shape = getattr(old, "shape", None)
    if shape is None:
        if isinstance(new, type(old)):
            return None
        return f"it returned {type(new).__name__}, expected {type(old).__name__} or None"
    if getattr(new, "shape", None) != shape or new.dtype != old.dtype or new.device != old.device:
        return f"it returned {describe(new)}, expected {describe(old)}: shape, dtype and device must stay"
    return None


def fields(*names: str) -> Law:
    """The same type, and these fields, tensors or None, must keep shape, dtype and device where both are there."""

    def law(old: Any, new: Any) -> str | None:
        if not isinstance(new, type(old)):
            return same(old, new)
        for name in names:
            before, after = getattr(old, name), getattr(new, name)
            if after is before or before is None or after is None:
                continue
            problem = same(before, after)
            if problem:
                return f"{name}: {problem}"
        return None

    return law


def a(kind: type) -> Law:
    """Of an around stage: an instance of ``kind``."""

    def law(_: Any, result: Any) -> str | None:
        return None if isinstance(result, kind) else f"it returned {type(result).__name__}, expected {kind.__name__}"

    return law


def like(field: str) -> Law:
    """Of an around stage: a tensor of the shape that this field of its arguments has."""

    def law(args: Any, result: Any) -> str | None:
        wanted = getattr(args, field).shape
        if getattr(result, "shape", None) == wanted:
            return None
        return f"it returned {describe(result)}, expected the shape {tuple(wanted)} of the {field} that it was given"

    return law


def shaped(args: Any, result: Any) -> str | None:
    """Of whoever chooses the noise: a tensor of the shape that was asked for."""
    if tuple(getattr(result, "shape", ())) == tuple(args.shape):
        return None
    return f"it returned {describe(result)}, expected a tensor of shape {tuple(args.shape)}"


def pixels_or_latents(field: str) -> Law:
    """Of an around stage: a tensor (rows, channels, height, width) with as many rows as this field has."""

    def law(args: Any, result: Any) -> str | None:
        rows = getattr(args, field).shape[0]
        shape = getattr(result, "shape", None)
        if shape is not None and len(shape) == 4 and shape[0] == rows:
            return None
        return f"it returned {describe(result)}, expected a tensor ({rows}, channels, height, width)"

    return law


def prompt(old: Any, new: Any) -> str | None:
    """A Prompt of texts."""
    problem = same(old, new)
    if problem:
        return problem
    if not isinstance(new.positive, str) or not isinstance(new.negative, str | None):
        return "the prompt that it returned holds something that is not text"
    return None


def conditioning(old: Mapping[str, Any], new: Any) -> str | None:
    """A mapping that still has every branch, and holds Conditioning."""
    if not isinstance(new, Mapping):
        return f"it returned {type(new).__name__}, expected a mapping from branch to Conditioning, or None"
    missing = sorted(old.keys() - new.keys())
    if missing:
        return (
            f"the mapping that it returned has lost the branch {', '.join(missing)}; branches may be added, not removed"
        )
    kind = type(next(iter(old.values())))
    for name, value in new.items():
        if not isinstance(value, kind):
            return f"branch {name!r} is {type(value).__name__}, expected {kind.__name__}"
        if getattr(value.context, "ndim", None) != 3 or value.context.shape[0] != 1:
            return f"the context of branch {name!r} is {describe(value.context)}, expected (1, tokens, width)"
    return None


def falling(old: tuple[float, ...], new: Any) -> str | None:
    """A tuple of finite numbers that do not rise."""
    if not isinstance(new, tuple) or not all(isinstance(v, int | float) for v in new):
        return f"it returned {type(new).__name__}, expected a tuple of numbers, or None"
    if not new:
        return "it returned no steps at all" if old else None
    if not all(math.isfinite(v) and v >= 0 for v in new) or any(later > v for v, later in pairwise(new)):
        return f"it returned {new}; they must be finite, not negative, and fall"
    return None


def unet_input(old: Any, new: Any) -> str | None:
    """The rows stay: sample and context may have other values, not another batch."""
    problem = fields("sample", "timestep", "mid_residual")(old, new)
    if problem:
        return problem
    if new.rows is not old.rows or new.branches is not old.branches or new.step is not old.step:
        return "it changed step, rows or branches; ask for other branches at the port branches"
    if new.context is not old.context and new.context.shape[::2] != old.context.shape[::2]:
        return f"context: it returned {describe(new.context)}, expected {describe(old.context)} (tokens may differ)"
    return None


def query_key_value(old: Any, new: Any) -> str | None:
    """The query's shape stays; there may be other keys, as many values."""
    problem = fields("query")(old, new)
    if problem:
        return problem
    for name in ("key", "value"):
        before, after = getattr(old, name), getattr(new, name)
        fits = getattr(after, "ndim", 0) == 4 and (*after.shape[:2], after.shape[3]) == (
            *before.shape[:2],
            before.shape[3],
        )
        if not fits or after.dtype != before.dtype:
            return (
                f"{name}: it returned {describe(after)}, expected {describe(before)} (the number of tokens may differ)"
            )
    if new.key.shape[2] != new.value.shape[2]:
        return f"it returned {new.key.shape[2]} keys and {new.value.shape[2]} values; there must be as many of both"
    return None
