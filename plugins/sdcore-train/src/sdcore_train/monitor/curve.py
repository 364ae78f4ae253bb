"""The loss curve as a picture: loss and its terms above, the learning rate below."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from .axes import Axis, calm, labels, linear_ticks, smooth, value_axis
from .drawing import COLOURS, FRAME, GRID, INK, MUTED, Canvas, Colour, Point, save_png

WIDTH, HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP = 62, 20, 44
_PANEL, _FOOT, _BETWEEN = 58, 40, 22


def draw_curve(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "loss") -> Path:
    """Draw the loss curve and write it as PNG, 1720 x 920 pixels.

    What was measured is faint, its moving average is a line. If there are several terms of the loss, each has a
    colour, and their sum is black. The axis is logarithmic if the average spans a factor of more than 8.

    Args:
        rows: of the log: ``step``, ``loss``, and where known ``terms`` (by name) and ``rate``. Values that are not
            finite or absent are left out.
        path: the file; replaced if it is there.
        title: above the curve.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    return save_png(curve(rows, title=title), path)


def curve(rows: Sequence[Mapping[str, Any]], *, title: str = "loss") -> Image.Image:
    """The picture that `draw_curve` writes."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text((_LEFT, 26), title, INK, 15)
    series = _series(rows)
    rates = _points(rows, lambda row: row.get("rate"))
    if not series:
        canvas.text((WIDTH / 2, HEIGHT / 2), "no updates yet", MUTED, 14, "mm")
        return canvas.picture()
    bottom = HEIGHT - _FOOT - (_PANEL + _BETWEEN if rates else 0)
    steps = [point[0] for one in series for point in one.points] + [point[0] for point in rates]
    across = _steps(min(steps), max(steps))
    up = value_axis(
        [value for one in series for _, value in one.points],
        [value for one in series for value in one.shown],
        bottom,
        _TOP,
    )
    _frame(canvas, across, up, 6)
    for one in series:
        _measured(canvas, one, across, up)
    for one in reversed(series):
        line = _thinned([(step, value) for (step, _), value in zip(one.points, one.smoothed, strict=True)])
        places = [(across.place(step), up.place(value)) for step, value in line]
        canvas.line(places, one.colour, 2.0 if one is series[0] else 1.6)
    _legend(canvas, series)
    if rates:
        _rates(canvas, rates, across, bottom + _BETWEEN)
    foot = HEIGHT - _FOOT
    whole = [tick for tick in across.ticks(9) if tick == int(tick)]
    for tick, text in zip(whole, labels(whole), strict=True):
        canvas.text((across.place(tick), foot + 15), text, MUTED, 11, "ms")
    canvas.text((WIDTH - _RIGHT, foot + 31), "step", MUTED, 11, "rs")
    return canvas.picture()


@dataclass(frozen=True)
class _Series:
    name: str
    colour: Colour
    points: list[Point]

    def _average(self, values: list[float]) -> list[float]:
        return smooth(values, max(5, len(values) / 30))

    @cached_property
    def smoothed(self) -> list[float]:
        return self._average([value for _, value in self.points])

    @cached_property
    def shown(self) -> list[float]:
        """What the axis must have room for: one bad batch bends the average, and would flatten all the rest."""
        return self._average(calm([value for _, value in self.points]))


def _points(rows: Sequence[Mapping[str, Any]], of: Any) -> list[Point]:
    found = []
    for row in rows:
        value = of(row)
        if isinstance(value, int | float) and math.isfinite(value):
            found.append((float(row["step"]), float(value)))
    return found


def _series(rows: Sequence[Mapping[str, Any]]) -> list[_Series]:
    names = list(dict.fromkeys(name for row in rows for name in row.get("terms") or ()))
    whole = _points(rows, lambda row: row.get("loss"))
    found = [("loss", COLOURS[0] if len(names) < 2 else INK, whole)]
    if len(names) > 1:
        for index, name in enumerate(names):
            values = _points(rows, lambda row, name=name: (row.get("terms") or {}).get(name))
            found.append((name, COLOURS[index % len(COLOURS)], values))
    return [_Series(name, colour, points) for name, colour, points in found if points]


def _steps(first: float, last: float) -> Axis:
    if first == last:
        first, last = first - 1, last + 1
    # From 0, unless a training is shown that goes on from far away.
    return Axis(min(first, 0.0) if first < 0.3 * last else first, last, _LEFT, WIDTH - _RIGHT)


def _frame(canvas: Canvas, across: Axis, up: Axis, most: int) -> None:
    _levels(canvas, up, up.ticks(most))
    for tick in across.ticks(9):
        canvas.line([(across.place(tick), up.start), (across.place(tick), up.end)], GRID, 0.5)


def _levels(canvas: Canvas, up: Axis, ticks: list[float]) -> None:
    for tick, text in zip(ticks, labels(ticks), strict=True):
        y = up.place(tick)
        canvas.line([(_LEFT, y), (WIDTH - _RIGHT, y)], GRID)
        canvas.text((_LEFT - 8, y), text, MUTED, 11, "rm")
    canvas.line([(_LEFT, up.start), (WIDTH - _RIGHT, up.start)], FRAME)


def _measured(canvas: Canvas, one: _Series, across: Axis, up: Axis) -> None:
    stride = max(1, len(one.points) // 3000)
    dots = [(across.place(x), up.place(y)) for x, y in one.points[::stride] if up.low <= y <= up.high]
    alpha = 0.5 if len(dots) < 150 else 0.3 if len(dots) < 1500 else 0.18
    canvas.dots(dots, one.colour, 1.8 if len(dots) < 400 else 1.3, alpha)


def _thinned(line: list[Point], per_pixel: int = 2) -> list[Point]:
    """At most as many points as can be seen, with the last one."""
    stride = max(1, len(line) // (WIDTH * per_pixel))
    return [*line[:-1:stride], line[-1]] if stride > 1 else line


def _legend(canvas: Canvas, series: list[_Series]) -> None:
    right = WIDTH - _RIGHT
    for one in reversed(series):
        words = f"{one.name} {one.smoothed[-1]:.4g}"
        right -= round(canvas.width_of(words, 12))
        if right < _LEFT + 80:
            break
        canvas.text((right, 26), words, INK, 12)
        canvas.box(right - 17, 20, right - 5, 23, one.colour)
        right -= 34


def _rates(canvas: Canvas, rates: list[Point], across: Axis, top: float) -> None:
    most = max(value for _, value in rates)
    up = Axis(0.0, most * 1.12 or 1.0, top + _PANEL, top)
    _levels(canvas, up, linear_ticks(0.0, up.high, 2))
    canvas.line([(across.place(x), up.place(y)) for x, y in _thinned(rates)], MUTED, 1.5)
    canvas.text((_LEFT, top - 7), "learning rate", MUTED, 11)
