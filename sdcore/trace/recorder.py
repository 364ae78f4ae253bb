"""Recorder: times, memory and changes while a traced run goes on. Used from the thread of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from .memory import Memory
from .norms import Squares
from .report import Span, TraceRow

MOST_SPANS = 100_000


@dataclass(frozen=True)
class Place:
    """What a measurement is about: a stage, a hook, or a network of the model, in one pass."""

    plugin: str
    version: str
    where: str
    kind: str
    phase: str | None
    stage: str
    number: int


@dataclass
class _Frame:
    """Something being timed; ``apart`` is what is not its own of the time and the memory since it began."""

    place: Place
    step: int | None
    began: float
    memory: int | None
    apart: float = 0.0
    memory_apart: int = 0
    peak: int = 0


@dataclass
class _Total:
    calls: int = 0
    seconds: float = 0.0
    memory: int | None = None
    peak: int | None = None
    compared: int = 0
    changed: int = 0
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0])


class Recorder:
    """Collects what the functions around stages measure.

    Attributes:
        open: whether anything is still recorded; stages that run later (a picture is saved) are not.
        number: which pass is being carried out, counted from 1.
        step: which step of it, for what is not told.
    """

    def __init__(self, memory: Memory) -> None:
        self.open = True
        self.number = 0
        self.step = 0
        self.spans: list[Span] = []
        self._memory = memory
        self._frames: list[_Frame] = []
        self._expected: dict[Place, None] = {}
        self._totals: dict[tuple[Place, int | None], _Total] = {}
        self._began = perf_counter()

    @property
    def seconds(self) -> float:
        """Since the recorder was made."""
        return perf_counter() - self._began

    @contextmanager
    def timed(self, place: Place, step: int | None) -> Iterator[None]:
        """Time what happens inside, but for what other stages do in it and what is ``apart``."""
        frame = self.push(place, step)
        try:
            yield
        finally:
            self.pop(frame)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens inside is not the current stage's own: the rest of the run, or the measuring."""
        if not self._frames:
            yield
            return
        outer = self._frames[-1]
        # Stages inside are taken off this frame, of which nothing is recorded, and not once more off the outer one.
        inner = _Frame(outer.place, outer.step, perf_counter(), self._memory.now())
        self._frames.append(inner)
        try:
            yield
        finally:
            self._cut(inner)
            outer.apart += perf_counter() - inner.began
            outer.memory_apart += self._grown(inner)

    def push(self, place: Place, step: int | None) -> _Frame:
        """Begin timing; :meth:`pop` ends it. For what has no inside, such as the hooks of a module."""
        begun = perf_counter()
        self._memory.wait()
        self._see_peak()
        frame = _Frame(place, step, 0.0, self._memory.now())
        if self._frames:
            self._frames[-1].apart += perf_counter() - begun
        self._frames.append(frame)
        frame.began = perf_counter()
        return frame

    def pop(self, frame: _Frame) -> None:
        """End timing. What was begun inside and never ended, because of an exception, ends too."""
        if frame not in self._frames:
            return
        self._memory.wait()
        ended = perf_counter()
        self._see_peak()
        self._cut(frame)
        grown = self._grown(frame)
        total = self._total(frame.place, frame.step)
        total.calls += 1
        own = ended - frame.began - frame.apart
        total.seconds += own
        if frame.memory is not None:
            total.memory = (total.memory or 0) + grown - frame.memory_apart
            if self._memory.has_peak:
                total.peak = max(total.peak or 0, frame.peak - frame.memory)
        if len(self.spans) < MOST_SPANS:
            where = frame.place
            begun, end = frame.began - self._began, ended - self._began
            self.spans.append(Span(where.plugin, where.where, where.number, frame.step, begun, end, own))
        if self._frames:
            outer = self._frames[-1]
            outer.apart += perf_counter() - frame.began
            outer.memory_apart += grown

    def changed(self, place: Place, step: int | None, squares: Squares | None) -> None:
        """Add what a call changed; None where it cannot be said."""
        total = self._total(place, step)
        if squares is not None:
            total.compared += 1
            total.changed += squares[0] > 0
            total.squares[0] += squares[0]
            total.squares[1] += squares[1]

    def expect(self, place: Place) -> None:
        """A stage of the plan: it is shown even if it is never called."""
        self._expected[place] = None

    def rows(self) -> tuple[TraceRow, ...]:
        """Everything so far, in the order in which it first happened; what never happened comes last."""
        rows = [_row(place, step, total) for (place, step), total in self._totals.items()]
        seen = {(place.plugin, place.where, place.stage) for place, _ in self._totals}
        for place in self._expected:
            if (place.plugin, place.where, place.stage) not in seen:
                seen.add((place.plugin, place.where, place.stage))
                rows.append(_row(place, None, _Total()))
        return tuple(rows)

    # -- pieces -----------------------------------------------------------------------------------------

    def _total(self, place: Place, step: int | None) -> _Total:
        return self._totals.setdefault((place, step), _Total())

    def _cut(self, frame: _Frame) -> None:
        while self._frames and self._frames.pop() is not frame:
            pass

    def _grown(self, frame: _Frame) -> int:
        now = self._memory.now()
        return 0 if now is None or frame.memory is None else now - frame.memory

    def _see_peak(self) -> None:
        """The counter of the device begins anew with every stage; those outside have seen what it showed."""
        if self._memory.has_peak:
            peak = self._memory.take_peak()
            for frame in self._frames:
                frame.peak = max(frame.peak, peak)


def _row(place: Place, step: int | None, total: _Total) -> TraceRow:
    compared: dict[str, Any] = {"difference": None, "reference": None}
    if total.compared:
        compared = {"difference": total.squares[0] ** 0.5, "reference": total.squares[1] ** 0.5}
    return TraceRow(
        plugin=place.plugin,
        version=place.version,
        where=place.where,
        kind=place.kind,
        phase=place.phase,
        stage=place.stage,
        number=place.number,
        step=step,
        calls=total.calls,
        changed=total.changed,
        seconds=total.seconds,
        memory=total.memory,
        peak=total.peak,
        **compared,
    )
