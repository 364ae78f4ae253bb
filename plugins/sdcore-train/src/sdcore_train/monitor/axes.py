"""Axes of a chart: from values to places, and where ticks stand. Plain numbers, no drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Maps values in [low, high] to places from ``start`` to ``end``, linearly or by their logarithm.

    Attributes:
        low, high: values, low < high; above 0 if ``log``.
        start, end: logical pixels; ``end`` is smaller for an axis that goes up.
        log: by the logarithm.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; values outside stand at the border."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """About ``most`` round values within the axis, rising."""
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high], at most ``most`` (but two if that fits)."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten in [low, high], with 2 and 5 between them or some left out, as many as there is room for."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if low * 0.999999 <= value <= high * 1.000001]
        if len(found) <= max(most, 2):
            break
    stride = max(1, math.ceil(len(found) / max(most, 2)))
    return found[::stride]


def value_axis(values: Sequence[float], shown: Sequence[float], start: float, end: float) -> Axis:
    """An axis for measured values.

    Args:
        values: all that were measured. Outliers (beyond what 98 % of them span, and a margin) may be cut off.
        shown: values that must be visible, such as the smoothed ones.
        start, end: places of the lowest and of the highest value.

    Returns:
        Logarithmic, if all values are above 0 and what is shown spans a factor of more than 8.
    """
    ordered = sorted(values)
    cut = len(ordered) // 100
    low, high = min(shown), max(shown)
    log = ordered[0] > 0 and high > 8 * low
    low, high = min(low, ordered[cut]), max(high, ordered[-1 - cut])
    if log:
        margin = max(high / low, 1.2) ** 0.04
        return Axis(low / margin, high * margin, start, end, log=True)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom = low - margin
    return Axis(0.0 if low >= 0 and bottom < 0.15 * high else bottom, high + margin, start, end)


def labels(ticks: Sequence[float]) -> list[str]:
    """Short texts of the ticks of one axis: 0.25, 1e-05 as 1e-5, and 5000 and 10000 as 5k and 10k."""
    largest = max(map(abs, ticks), default=0.0)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 10 * limit and all(tick % (limit / 10) == 0 for tick in ticks):
            return [f"{tick / limit:.6g}{unit}" if tick else "0" for tick in ticks]
    return [_label(tick) for tick in ticks]


def _label(value: float) -> str:
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


def calm(values: Sequence[float], most: float = 10.0, beside: int = 4) -> list[float]:
    """Values without single peaks: none is more than ``most`` times the median of itself and those beside it."""
    found = []
    for index, value in enumerate(values):
        near = sorted(values[max(0, index - beside) : index + beside + 1])
        middle = near[len(near) // 2]
        found.append(min(value, most * middle) if middle > 0 else value)
    return found


def smooth(values: Sequence[float], span: float) -> list[float]:
    """A moving average that looks to both sides, with weights that halve about every third of ``span`` values.

    It does not lag behind, and its ends are averages of what there is.
    """
    keep = 1 - 2 / (max(span, 1) + 1)
    before, after = _decayed(values, keep), _decayed(values[::-1], keep)[::-1]
    return [
        (sums + later - value) / (weight + others - 1)
        for (sums, weight), (later, others), value in zip(before, after, values, strict=True)
    ]


def _decayed(values: Sequence[float], keep: float) -> list[tuple[float, float]]:
    total, weight, found = 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        found.append((total, weight))
    return found
