"""Calling stages: the four kinds, and the name of whoever breaks the law of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .errors import Cancelled, OutOfMemoryError, PluginError, RequestError, SdcoreError, Withheld
from .laws import same, stamp
from .order import Stage

_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "STATUS_ALLOC_FAILED")
_PASS = (PluginError, Cancelled, Withheld, OutOfMemoryError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def blame(stage: Stage, error: Exception, step: int | None = None) -> Exception:
    """The error to raise for an exception that came out of a stage: a PluginError that names it.

    Errors that came through the stage from the core or from another plugin are returned as they are.
    """
    if isinstance(error, _PASS) or is_out_of_memory(error) or getattr(error, "_sdcore_inner", False):
        return error
    return broke(stage, f"{type(error).__name__}: {error}", step)


def broke(stage: Stage, problem: str, step: int | None = None) -> PluginError:
    """A PluginError for a stage that broke the law of its port."""
    return PluginError(stage.plugin, stage.version, str(stage.port), problem, step)


def call(stage: Stage, *args: Any, step: int | None = None) -> Any:
    """Call one stage, naming it in the error. Changing an argument in place is one: others see it too."""
    port = stage.port
    kind = port.kind
    watched = kind != "around"
    before = [stamp(arg) for arg in args] if watched else None
    try:
        result = stage.fn(*args)
    except Exception as error:  # noqa: BLE001 - every error of a plugin is raised again with its name
        blamed = blame(stage, error, step)
        raise blamed from (None if blamed is error else error)
    if watched and [stamp(arg) for arg in args] != before:
        raise broke(stage, "it changed what it was given in place, which others see too; return a changed copy", step)
    # A choose port's law is about the arguments; the law that chains share is about a value that the caller has.
    return checked(stage, args[0], result, step) if kind == "choose" and port.law is not same else result


def checked(stage: Stage, old: Any, new: Any, step: int | None = None) -> Any:
    """``new`` if it keeps the law of the stage's port."""
    problem = stage.port.law(old, new)
    if problem:
        raise broke(stage, problem, step)
    return new


def chain(stages: Iterable[Stage], value: Any, step: int | None = None) -> Any:
    """Fold ``value`` through stages that take it as their only argument."""
    for stage in stages:
        value = _link(stage, value, call(stage, value, step=step), step)
    return value


def chain_at(stages: Iterable[Stage], where: Any, value: Any, step: int | None = None) -> Any:
    """Fold ``value`` through stages that take (where, value)."""
    for stage in stages:
        value = _link(stage, value, call(stage, where, value, step=step), step)
    return value


def _link(stage: Stage, value: Any, result: Any, step: int | None) -> Any:
    return value if result is None else checked(stage, value, result, step)


def add(stages: Iterable[Stage], total: Any, *args: Any, step: int | None = None) -> Any:
    """``total`` with what every stage of a sum gives for ``args`` added to it; None adds nothing."""
    for stage in stages:
        term = call(stage, *args, step=step)
        if term is not None:
            total = total + checked(stage, total, term, step)
    return total


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

    wrapped: Callable[[Any], Any] = innermost
    for stage in reversed(stages):
        wrapped = _layer(stage, wrapped)
    return wrapped


def _layer(stage: Stage, call_next: Callable[[Any], Any]) -> Callable[[Any], Any]:
    law = stage.port.law

    def layer(args: Any) -> Any:
        step = getattr(getattr(args, "step", None), "index", None)

        def onwards(passed: Any) -> Any:
            if passed is args:
                return call_next(passed)
            if not isinstance(passed, type(args)):
                problem = f"it called call_next with {type(passed).__name__}, expected {type(args).__name__}"
                raise broke(stage, problem, step)
            try:
                return call_next(passed)
            except Exception as error:
                # What the core does with arguments that a stage made is that stage's to answer for.
                known = isinstance(error, SdcoreError) and not isinstance(error, RequestError)
                if known or is_out_of_memory(error) or not getattr(error, "_sdcore_inner", False):
                    raise
                raise broke(stage, f"what it passed on made {type(error).__name__}: {error}", step) from error

        result = call(stage, args, onwards, step=step)
        if result is None:
            raise broke(stage, "it returned None; an around stage must return a value, usually call_next(args)", step)
        problem = law(args, result)
        if problem:
            raise broke(stage, problem, step)
        return result

    return layer
