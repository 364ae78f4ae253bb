"""Weights that change over the steps."""

from __future__ import annotations

from collections.abc import Sequence

Keyframes = Sequence[tuple[float, float]]


def at(weight: float | Keyframes, start: float, end: float, fraction: float) -> float:
    """The weight at a point of the run.

    Args:
        weight: a number, or rising (fraction, weight) keyframes: linear between them, level before the first and
            after the last.
        start, end: it is off before ``start``, and from ``end`` on unless ``end`` is 1.
        fraction: of the run, 0 in the first step to just below 1 in the last.
    """
    if fraction < start or (fraction >= end and end < 1):
        return 0.0
    if isinstance(weight, int | float):
        return float(weight)
    before = weight[0]
    for keyframe in weight:
        if keyframe[0] > fraction:
            if keyframe is weight[0]:
                break
            part = (fraction - before[0]) / (keyframe[0] - before[0])
            return before[1] + part * (keyframe[1] - before[1])
        before = keyframe
    return float(before[1])


def is_constant(weight: float | Keyframes, start: float, end: float) -> bool:
    """Whether it is one number in all steps."""
    level = isinstance(weight, int | float) or len({value for _, value in weight}) == 1
    return level and start <= 0 and end >= 1
