"""A plan's stages with a measuring function around each. They do what they did, and results are bit-identical."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sdcore.order import Plan, Stage
from sdcore.stages import SidePath, Step, UNetInput, WeightPatch

from .norms import UNCHANGED, Squares, difference
from .recorder import Place, Recorder
from .residuals import Residuals
from .weights import traced_patch, traced_side_path


def trace_plan(plan: Plan, recorder: Recorder, residuals: Residuals) -> Plan:
    """The same plan, measured, as the next pass of the recorder."""
    recorder.number += 1
    recorder.step = 0
    return plan.replaced(lambda stage: _traced(stage, recorder, residuals))


def _traced(stage: Stage, recorder: Recorder, residuals: Residuals) -> Stage:
    fn, port = stage.fn, stage.port
    place = Place(stage.plugin, stage.version, str(port), port.kind, stage.phase, _name(fn), recorder.number)
    recorder.expect(place)
    if isinstance(fn, WeightPatch):
        return replace(stage, fn=traced_patch(fn, place, recorder))
    if isinstance(fn, SidePath):
        return traced_side_path(stage, fn, place, recorder)
    if not callable(fn):
        return stage  # a word: it has no function, and what it changes is not told apart
    if port.kind == "around":
        return replace(stage, fn=_around(fn, place, recorder))
    if port.kind == "sum":
        return _sum(stage, place, recorder)
    return replace(stage, fn=_plain(fn, place, recorder, residuals))


def _name(fn: Any) -> str:
    if isinstance(fn, WeightPatch):
        return fn.target
    return getattr(fn, "__qualname__", type(fn).__name__)


def _step_of(args: tuple[Any, ...]) -> int | None:
    """The step that a stage is told of: its first argument, or a field of that."""
    first = args[0] if args else None
    step = first if isinstance(first, Step) else getattr(first, "step", None)
    return step.index if isinstance(step, Step) else None


def _plain(fn: Callable[..., Any], place: Place, recorder: Recorder, residuals: Residuals) -> Callable[..., Any]:
    """Of a chain: a value in, a value out. Of a choice: what it chose, which has nothing to compare with but for one.

    The guided prediction is compared with the conditional one, from which guidance leads away.
    """

    def measured(*args: Any) -> Any:
        if not recorder.open:
            return fn(*args)
        step = _step_of(args)
        with recorder.timed(place, step):
            result = fn(*args)
        with recorder.apart():
            recorder.changed(place, step, _change(args, result, place, step))
        return result

    def _change(args: tuple[Any, ...], result: Any, place: Place, step: int | None) -> Squares | None:
        if place.kind == "choose":
            predictions = args[-1] if isinstance(args[-1], Mapping) else {}
            return difference(predictions["cond"], result) if "cond" in predictions else None
        if result is None:
            return UNCHANGED
        value = args[min(1, len(args) - 1)]
        if isinstance(value, UNetInput) and isinstance(result, UNetInput):
            return residuals.change(value, result, place, step)
        return difference(value, result)

    return measured


def _sum(stage: Stage, place: Place, recorder: Recorder) -> Stage:
    """Of a sum: the port's law sees the total beside what is added to it."""
    fn, law = stage.fn, stage.port.law
    latest: int | None = None

    def measured(*args: Any) -> Any:
        nonlocal latest
        if not recorder.open:
            return fn(*args)
        latest = _step_of(args)
        with recorder.timed(place, latest):
            result = fn(*args)
        return result

    def weighed(total: Any, term: Any) -> str | None:
        problem = law(total, term)
        if problem is None and recorder.open:
            with recorder.apart():
                recorder.changed(place, latest, _share(total, term))
        return problem

    return replace(stage, fn=measured, port=replace(stage.port, law=weighed))


def _share(total: Any, term: Any) -> Squares | None:
    return difference(total, total + term) if hasattr(term, "_version") else None


def _around(
    fn: Callable[[Any, Callable[[Any], Any]], Any], place: Place, recorder: Recorder
) -> Callable[[Any, Callable[[Any], Any]], Any]:
    """Of an onion: what it passed on first against what it was given, what it returned against what came back then.

    The first call is what the run would be without it. The larger of the two counts; what it did without calling on
    has nothing to compare with, nor has what it passed on or returned in another shape, if nothing else changed.
    """

    def measured(args: Any, call_next: Callable[[Any], Any]) -> Any:
        if not recorder.open:
            return fn(args, call_next)
        step = _step_of((args,))
        first: tuple[Any, Any] | None = None

        def onwards(given: Any) -> Any:
            nonlocal first
            with recorder.apart():
                result = call_next(given)
            first = first or (given, result)
            return result

        with recorder.timed(place, step):
            result = fn(args, onwards)
        with recorder.apart():
            changes = [] if first is None else [difference(args, first[0]), difference(first[1], result)]
            recorder.changed(place, step, _larger(changes))
        return result

    return measured


def _larger(changes: Iterable[Squares | None]) -> Squares | None:
    """The larger relative change; None if there is none and one of them cannot be told."""
    found = list(changes)
    largest = max((change for change in found if change is not None), key=_relative, default=None)
    return None if None in found and largest == UNCHANGED else largest


def _relative(change: Squares) -> float:
    return change[0] / change[1] if change[1] else (float("inf") if change[0] else 0.0)
