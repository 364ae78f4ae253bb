"""Weight patches and side paths, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sdcore.order import Stage
from sdcore.stages import SidePath, WeightPatch

from .norms import square
from .recorder import Place, Recorder


def traced_patch(patch: WeightPatch, place: Place, recorder: Recorder) -> WeightPatch:
    """A patch whose change is told relative to the weight, for a strength that varies at every step.

    Args:
        patch: the patch.
        place: what it counts as; all patches of a plugin for one network count together.
        recorder: told of every call.
    """
    delta, strength = patch.delta, patch.strength
    norms = (0.0, 0.0)  # of the change at strength 1, and of the weight

    def measured(original: Any) -> Any:
        nonlocal norms
        if not recorder.open:
            return delta(original)
        with recorder.timed(place, None):
            change = delta(original)
        with recorder.apart():
            if getattr(change, "shape", None) == original.shape:
                norms = square(change), square(original)
                if not callable(strength):
                    recorder.changed(place, None, (float(strength) ** 2 * norms[0], norms[1]))
        return change

    if not callable(strength):
        return replace(patch, delta=measured)
    varying: Callable[..., float] = strength

    def factor(step: Any, branch: Any) -> float:
        value = varying(step, branch)
        if recorder.open:
            # For every branch: where they differ, the weight is written for each of them.
            recorder.changed(place, step.index, (float(value) ** 2 * norms[0], norms[1]))
        return value

    return replace(patch, delta=measured, strength=factor)


def traced_side_path(stage: Stage, path: SidePath, place: Place, recorder: Recorder) -> Stage:
    """A stage with a side path that tells what it adds relative to the module's output.

    The port's law sees both, but not the strength: those of the branches are asked first, then each part is added.
    """
    run, strength, law = path.path, path.strength, stage.port.law
    factors: list[float] = []
    used = 0

    def measured(hidden: Any) -> Any:
        if not recorder.open:
            return run(hidden)
        with recorder.timed(place, recorder.step):
            return run(hidden)

    def factor(step: Any, branch: Any) -> float:
        nonlocal used
        if used:
            factors.clear()
            used = 0
        value = strength(step, branch)  # type: ignore[operator]
        factors.append(float(value))
        return value

    def weighed(output: Any, added: Any) -> str | None:
        nonlocal used
        problem = law(output, added)
        if problem is None and recorder.open:
            with recorder.apart():
                parts = [value for value in factors if value] if len(set(factors)) > 1 else factors[:1]
                value = parts[min(used, len(parts) - 1)] if parts else 1.0 if callable(strength) else float(strength)
                recorder.changed(place, recorder.step, (value**2 * square(added), square(output)))
        used += 1
        return problem

    changed = replace(path, path=measured, strength=factor if callable(strength) else strength)
    return replace(stage, fn=changed, port=replace(stage.port, law=weighed))
