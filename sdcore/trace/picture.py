"""The picture of a trace: a time line by plugin above, a map of relative change by stage and step below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from .report import SHOWN_ONLY, TraceRow, shown

if TYPE_CHECKING:
    from .report import Span, Trace

WIDTH, MARGIN, NAMES, TOTALS = 1280, 24, 300, 170
LANE, CELL, ASIDE, ROOM = 34, 26, 56, 44
MOST_ROWS = 40
PAPER, INK, FAINT, GRID = (255, 255, 255), (33, 33, 40), (120, 120, 130), (226, 226, 232)
UNKNOWN = (240, 240, 244)
CORE = (150, 156, 168)
NETWORKS = {
    "text encoder": (95, 100, 116),
    "unet": CORE,
    "vae encoder": (180, 150, 110),
    "vae decoder": (95, 125, 110),
}
COLOURS = ((31, 119, 180), (214, 99, 24), (44, 140, 60), (190, 50, 70), (125, 90, 170), (20, 140, 150), (150, 110, 20))
RAMP = ((255, 250, 225), (254, 225, 150), (253, 170, 80), (240, 95, 55), (190, 20, 45), (95, 0, 40))
LOWEST, HIGHEST = -4.0, 0.0
"""Decimal logarithms of the relative changes at the ends of the ramp."""
AFTER = ("decode", "output", "judge", "whole_run")

Column = tuple[int, int | None] | str
"""A step of a pass, ``"before"`` or ``"after"`` the loop."""


def draw(trace: Trace) -> Image.Image:
    """Draw a trace; RGB, 1280 pixels wide, as high as its plugins and stages need."""
    totals = [row for row in trace.totals() if row.plugin != "core" and row.kind != "hook"]
    rows = [row for row in totals if row.calls or row.difference is not None][:MOST_ROWS]
    left_out = len(totals) - len(rows)
    lanes = list(dict.fromkeys(["core", *(row.plugin for row in trace.rows)]))
    top = MARGIN + 74
    middle = top + len(lanes) * LANE + 130
    height = middle + len(rows) * CELL + (96 if rows else 20)
    image = Image.new("RGB", (WIDTH, height), PAPER)
    canvas = _Canvas(image)
    _title(canvas, trace)
    _time_line(canvas, trace, lanes, top)
    _map(canvas, trace, rows, middle, left_out)
    return image


class _Canvas:
    """A drawing with the three sizes of text that a trace needs."""

    def __init__(self, image: Image.Image) -> None:
        self.draw = ImageDraw.Draw(image)
        self.small, self.normal, self.large = (ImageFont.load_default(size) for size in (12, 14, 21))

    def text(self, x: float, y: float, text: str, *, bold: bool = False, small: bool = False, **how: object) -> None:
        """A line of text; ``anchor`` and ``fill`` are Pillow's."""
        font = self.small if small else self.large if bold else self.normal
        self.draw.text((x, y), text, font=font, **{"fill": INK, **how})  # type: ignore[arg-type]

    def fitted(self, x: float, y: float, text: str, width: float, **how: object) -> None:
        """A line cut in its middle where it is too wide."""
        short, keep = text, len(text)
        while self.draw.textlength(short, font=self.normal) > width and keep > 6:
            keep -= 1
            short = text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]
        self.text(x, y, short, **how)  # type: ignore[arg-type]


def _title(canvas: _Canvas, trace: Trace) -> None:
    canvas.text(MARGIN, MARGIN - 4, "What each plugin did", bold=True)
    who = [item for item in trace.changes() if item.change]
    said = ", ".join(f"{item.plugin} {shown(item.change)} at {item.where}" for item in who[:3]) or "no plugin"
    canvas.fitted(MARGIN, MARGIN + 28, f"Changed most, relative to what was there: {said}", WIDTH - 2 * MARGIN)


def _time_line(canvas: _Canvas, trace: Trace, lanes: Sequence[str], top: int) -> None:
    left, right = MARGIN + NAMES, WIDTH - MARGIN - TOTALS
    bottom = top + len(lanes) * LANE
    # Preparing may take as long as it likes; what is shown is the run itself.
    end = max([span.end for span in trace.spans], default=trace.seconds) or 1.0

    def at(seconds: float) -> float:
        return left + (right - left) * seconds / end

    canvas.text(right + TOTALS, top - 22, "own time", small=True, fill=FAINT, anchor="ra")
    for mark in _marks(end):
        canvas.draw.line((at(mark), top, at(mark), bottom), fill=GRID)
        canvas.text(at(mark), bottom + 18, _seconds(mark), small=True, fill=FAINT, anchor="mt")
    steps = _steps_on_line(trace)
    width = (at(steps[-1][2]) - at(steps[0][1])) / len(steps) if steps else 0
    for number, (column, begin, _) in enumerate(steps):
        canvas.draw.line((at(begin), top - 6, at(begin), bottom), fill=(205, 205, 214))
        if number % max(1, math.ceil(26 / max(width, 1))) == 0:
            canvas.text(at(begin) + 3, top - 8, str((column[1] or 0) + 1), small=True, fill=FAINT, anchor="ls")
    canvas.text(left - 10, top - 8, "step", small=True, fill=FAINT, anchor="rs")
    for index, lane in enumerate(lanes):
        y = top + index * LANE
        canvas.draw.line((MARGIN, y, WIDTH - MARGIN, y), fill=GRID)
        canvas.fitted(MARGIN, y + 8, _lane_name(lane), NAMES - 20)
        colour = _colour(lane, lanes)
        for span in trace.spans:
            if span.plugin == lane:
                x0, x1 = at(span.begin), at(span.end)
                canvas.draw.rectangle((x0, y + 6, max(x0 + 1, x1), y + LANE - 7), fill=_shade(colour, span))
        spent = sum(row.seconds for row in trace.rows if row.plugin == lane)
        canvas.text(WIDTH - MARGIN, y + 8, f"{spent * 1000:.1f} ms", anchor="ra")
    canvas.draw.line((MARGIN, bottom, WIDTH - MARGIN, bottom), fill=GRID)
    x = float(MARGIN + NAMES)
    for where in NETWORKS:
        if any(span.plugin == "core" and span.where == where for span in trace.spans):
            canvas.draw.rectangle((x, bottom + 42, x + 12, bottom + 54), fill=NETWORKS[where])
            canvas.text(x + 18, bottom + 41, where, small=True, fill=FAINT)
            x += 40 + canvas.draw.textlength(where, font=canvas.small)
    note = "plugins: before the first step their hooks too; pale where the call waited for the rest of the run"
    canvas.text(x, bottom + 41, note, small=True, fill=FAINT)


def _map(canvas: _Canvas, trace: Trace, rows: Sequence[TraceRow], top: int, left_out: int) -> None:
    if not rows:
        return
    columns = _columns(trace)
    left, right = MARGIN + NAMES + 60, WIDTH - MARGIN - TOTALS
    width = (right - left - 2 * ASIDE) / max(1, len(columns) - 2)

    def extent(index: int) -> tuple[float, float]:
        if isinstance(columns[index], str):
            return (left, left + ASIDE) if index == 0 else (right - ASIDE, right)
        begin = left + ASIDE + (index - 1) * width
        return begin, begin + width

    places = {row.place for row in rows}
    cells: dict[tuple[object, Column], float | None] = {}
    for row in trace.rows:
        if row.place in places and row.calls + row.changed:
            key = (row.place, _column(row))
            known = cells.get(key)
            cells[key] = row.change if known is None else max(known, row.change or 0.0)
    canvas.text(MARGIN, top - 52, "How much each stage changed its value: |new - old| / |old|")
    every = max(1, math.ceil(24 / width))
    for index, column in enumerate(columns):
        x = sum(extent(index)) / 2
        if isinstance(column, str):
            canvas.text(x, top - 6, column, small=True, fill=FAINT, anchor="ms")
        elif (column[1] or 0) % every == 0:
            canvas.text(x, top - 6, str((column[1] or 0) + 1), small=True, fill=FAINT, anchor="ms")
    canvas.text(WIDTH - MARGIN, top - 6, "all together", small=True, fill=FAINT, anchor="rs")
    for number, row in enumerate(rows):
        y = top + number * CELL
        phase = f" [{row.phase}]" if row.phase else ""
        looked = " (not in the picture)" if row.where in SHOWN_ONLY else ""
        network = f" ({row.stage})" if row.where == "weights.weights" else ""
        canvas.fitted(MARGIN, y + 5, f"{row.plugin}  {row.where}{phase}{network}{looked}", NAMES + 46)
        for index, column in enumerate(columns):
            if (row.place, column) in cells:
                change = cells[row.place, column]
                begin, end = extent(index)
                gap = 2 if end - begin > 4 else 1
                canvas.draw.rectangle((begin, y + 2, end - gap, y + CELL - 2), fill=heat(change))
                if end - begin >= ROOM:
                    ink = PAPER if change is not None and change > 0.04 else INK if change is not None else FAINT
                    middle = (begin + end) / 2
                    canvas.text(middle, y + CELL / 2, shown(change), small=True, fill=ink, anchor="mm")
        canvas.text(WIDTH - MARGIN, y + 5, f"{shown(row.change)}", anchor="ra")
        canvas.text(
            WIDTH - MARGIN - 92, y + 5, f"{row.calls} call{'' if row.calls == 1 else 's'}", anchor="ra", fill=FAINT
        )
    _legend(canvas, left, top + len(rows) * CELL + 22, left_out)


def _legend(canvas: _Canvas, left: float, y: int, left_out: int) -> None:
    for index in range(240):
        change = 10 ** (LOWEST + (HIGHEST - LOWEST) * index / 239)
        canvas.draw.line((left + index, y, left + index, y + 12), fill=heat(change))
    for power in range(int(LOWEST), int(HIGHEST) + 1):
        x = left + 239 * (power - LOWEST) / (HIGHEST - LOWEST)
        canvas.text(x, y + 16, f"{10.0**power:g}", small=True, fill=FAINT, anchor="mt")
    canvas.draw.rectangle((left + 280, y, left + 294, y + 12), fill=heat(None))
    canvas.text(left + 302, y, "ran, but old and new do not compare", small=True, fill=FAINT)
    if left_out:
        canvas.text(left + 302, y + 18, f"not shown: {left_out} that never ran or changed less", small=True, fill=FAINT)


def heat(change: float | None) -> tuple[int, int, int]:
    """The colour of a relative change, on a logarithmic scale; white for none, grey where it is not known."""
    if change is None:
        return UNKNOWN
    if change <= 0:
        return PAPER
    place = (math.log10(min(change, 10.0)) - LOWEST) / (HIGHEST - LOWEST)
    place = min(max(place, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    red, green, blue = (round(a + (b - a) * (place - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True))
    return red, green, blue


def _columns(trace: Trace) -> list[Column]:
    steps = sorted({(row.number, row.step) for row in trace.rows if row.step is not None and row.kind != "hook"})
    return ["before", *steps, "after"]


def _column(row: TraceRow) -> Column:
    if row.step is not None:
        return row.number, row.step
    return "after" if row.where.partition(".")[0] in AFTER else "before"


def _steps_on_line(trace: Trace) -> list[tuple[tuple[int, int | None], float, float]]:
    """When each step began and ended, as far as its spans tell."""
    found: dict[tuple[int, int | None], tuple[float, float]] = {}
    for span in trace.spans:
        if span.step is not None and span.where != "observe":
            key = (span.number, span.step)
            begin, end = found.get(key, (span.begin, span.end))
            found[key] = min(begin, span.begin), max(end, span.end)
    return [(key, *times) for key, times in sorted(found.items(), key=lambda item: item[1])]


def _marks(end: float) -> list[float]:
    """About six round numbers of seconds up to the end."""
    rough = end / 6
    base = 10 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 5, 10) if base * factor >= rough)
    return [step * number for number in range(int(end / step) + 1)]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 1 else f"{seconds:g} s"


def _lane_name(lane: str) -> str:
    return "the engine's networks" if lane == "core" else lane


def _colour(lane: str, lanes: Sequence[str]) -> tuple[int, int, int]:
    return CORE if lane == "core" else COLOURS[(list(lanes).index(lane) - 1) % len(COLOURS)]


def _shade(colour: tuple[int, int, int], span: Span) -> tuple[int, int, int]:
    """The engine's networks have a colour each; a plugin's bar is pale where most of it is not the plugin's own."""
    if span.plugin == "core":
        return NETWORKS.get(span.where, CORE)
    if span.own * 2 >= span.end - span.begin:
        return colour
    red, green, blue = (255 - (255 - part) // 4 for part in colour)
    return red, green, blue
