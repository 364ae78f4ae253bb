"""Calling stages: the four laws, and the name of whoever breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .errors import Cancelled, OutOfMemoryError, PluginError, Withheld
from .order import Stage

_PASS = (PluginError, Cancelled, Withheld, OutOfMemoryError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    name = type(error).__name__
    return name == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))
    )


def blame(stage: Stage, error: Exception, step: int | None = None) -> Exception:
    """The error to raise for an exception that came out of a stage: a PluginError that names it.

    Errors that came through the stage from the core or from another plugin are returned as they are.
    """
    if isinstance(error, _PASS) or is_out_of_memory(error) or getattr(error, "_sdcore_inner", False):
        return error
    return PluginError(stage.plugin, stage.version, str(stage.port), f"{type(error).__name__}: {error}", step)


def broke(stage: Stage, problem: str, step: int | None = None) -> PluginError:
    """A PluginError for a stage that broke the law of its port."""
    return PluginError(stage.plugin, stage.version, str(stage.port), problem, step)


def call(stage: Stage, *args: Any, step: int | None = None) -> Any:
    """Call one stage, naming it in the error."""
    try:
        return stage.fn(*args)
    except Exception as error:  # noqa: BLE001 - every error of a plugin is raised again with its name
        blamed = blame(stage, error, step)
        raise blamed from (None if blamed is error else error)


def checked(stage: Stage, old: Any, new: Any, step: int | None = None) -> Any:
    """``new`` if it keeps the law of a chain: same type, and for tensors same shape, dtype and device."""
    shape = getattr(old, "shape", None)
    if shape is None:
        if not isinstance(new, type(old)):
            raise broke(stage, f"it returned {type(new).__name__}, expected {type(old).__name__} or None", step)
    elif getattr(new, "shape", None) != shape or new.dtype != old.dtype or new.device != old.device:
        raise broke(
            stage,
            f"it returned {_describe(new)}, expected {_describe(old)}: shape, dtype and device must stay",
            step,
        )
    return new


def chain(stages: Iterable[Stage], value: Any, step: int | None = None, check: bool = True) -> Any:
    """Fold ``value`` through stages that take it as their only argument."""
    for stage in stages:
        result = call(stage, value, step=step)
        if result is not None:
            value = checked(stage, value, result, step) if check else result
    return value


def chain_at(stages: Iterable[Stage], where: Any, value: Any, step: int | None = None, check: bool = True) -> Any:
    """Fold ``value`` through stages that take (where, value)."""
    for stage in stages:
        result = call(stage, where, value, step=step)
        if result is not None:
            value = checked(stage, value, result, step) if check else result
    return value


def onion(stages: tuple[Stage, ...], core: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``core`` with around stages about it, the first outermost. Without stages, ``core`` itself."""
    if not stages:
        return core

    def innermost(args: Any) -> Any:
        try:
            return core(args)
        except Exception as error:
            error._sdcore_inner = True  # type: ignore[attr-defined]  # not the fault of the stages outside
            raise

    wrapped = innermost
    for stage in reversed(stages):
        wrapped = _layer(stage, wrapped)
    return wrapped


def _layer(stage: Stage, call_next: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def layer(args: Any) -> Any:
        step = getattr(getattr(args, "step", None), "index", None)
        result = call(stage, args, call_next, step=step)
        if result is None:
            raise broke(stage, "it returned None; an around stage must return a value, usually call_next(args)", step)
        return result

    return layer


def _describe(value: Any) -> str:
    if not hasattr(value, "shape"):
        return type(value).__name__
    return f"{tuple(value.shape)} {value.dtype} on {value.device}"
