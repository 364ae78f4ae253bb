"""Trace: what was measured, as rows, text, JSON and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_ONLY = frozenset({"step.preview"})
"""Ports whose values are looked at and do not go into the picture."""


@dataclass(frozen=True)
class TraceRow:
    """What one stage, hook or network did in one step of one pass, all its calls together.

    Attributes:
        plugin: who: a plugin, or ``"core"`` for the engine and the model's networks.
        version: its distribution and version.
        where: the port (``"step.latents_out"``), the hook (``"weights"``), or the network (``"unet"``).
        kind: ``chain``, ``sum``, ``choose``, ``around``, ``hook`` or ``network``.
        phase: of the port, or None.
        stage: name of the function; of weight patches the network that they change.
        number: the pass, counted from 1 over batches and the passes that plugins make.
        step: counted from 0; None outside the loop.
        calls: how often it ran; 0 for a stage that never did.
        changed: in how many of them it changed anything that could be compared.
        seconds: of its own: without what it called on, and without measuring.
        memory: bytes, see ``Trace.memory``; None where not known.
        peak: bytes, on a GPU.
        difference: Euclidean norm of what it changed, over the calls that changed something; None where old and new
            do not compare.
        reference: norm of what was there before in those calls.
    """

    plugin: str
    version: str
    where: str
    kind: str
    phase: str | None
    stage: str
    number: int
    step: int | None
    calls: int
    changed: int
    seconds: float
    memory: int | None
    peak: int | None
    difference: float | None
    reference: float | None

    @property
    def change(self) -> float | None:
        """``difference / reference``: 0 unchanged, 1 as much as there was, infinite where nothing was before."""
        return _ratio(self.difference, self.reference)

    @property
    def place(self) -> tuple[str, str, str | None, str]:
        """Which stage it is, whatever the pass and the step."""
        return self.plugin, self.where, self.phase, self.stage


@dataclass(frozen=True)
class Span:
    """One call on the time line: ``begin`` and ``end`` in seconds since the run began; ``own`` as in the rows."""

    plugin: str
    where: str
    number: int
    step: int | None
    begin: float
    end: float
    own: float


@dataclass(frozen=True)
class PluginChange:
    """The largest relative change that a plugin made to a value, and where; None where nothing could be compared."""

    plugin: str
    change: float | None
    where: str
    step: int | None


@dataclass(frozen=True)
class Trace:
    """What a run did. ``print`` it, or look at :meth:`picture`.

    Attributes:
        rows: every stage, hook and network by pass and step, in the order in which it first ran.
        spans: single calls, at most 100,000.
        seconds: of the whole run, measuring included.
        device: where the model is.
        memory: what the numbers about memory are.
    """

    rows: tuple[TraceRow, ...]
    spans: tuple[Span, ...]
    seconds: float
    device: str
    memory: str

    def totals(self) -> list[TraceRow]:
        """One row for each stage, hook and network, all passes and steps together; the largest change first."""
        groups: dict[tuple[str, str, str | None, str], list[TraceRow]] = {}
        for row in self.rows:
            groups.setdefault(row.place, []).append(row)
        return sorted((_together(group) for group in groups.values()), key=_by_change)

    def changes(self) -> list[PluginChange]:
        """The plugins, those that changed a value most first. Each stands with its largest change in one step."""
        found: dict[str, PluginChange] = {}
        for row in self.rows:
            if row.where in SHOWN_ONLY or row.plugin == "core":
                continue
            known = found.setdefault(row.plugin, PluginChange(row.plugin, None, row.where, row.step))
            if row.change is not None and (known.change is None or row.change > known.change):
                found[row.plugin] = PluginChange(row.plugin, row.change, row.where, row.step)
        return sorted(found.values(), key=lambda item: -1.0 if item.change is None else item.change, reverse=True)

    def who_changed_most(self) -> str | None:
        """Name of the plugin that changed a value most, relative to it; None if none changed anything.

        Values at different ports weigh differently in the picture: to be sure, leave the plugin out and compare.
        """
        changes = self.changes()
        return changes[0].plugin if changes and changes[0].change else None

    def to_json(self) -> str:
        """Rows, totals by plugin, and spans. A relative change that is infinite is null."""
        rows = [{**asdict(row), "change": _finite(row.change)} for row in self.rows]
        changes = [{**asdict(item), "change": _finite(item.change)} for item in self.changes()]
        head = {"seconds": self.seconds, "device": self.device, "memory": self.memory, "changes": changes}
        return json.dumps({**head, "rows": rows, "spans": [asdict(span) for span in self.spans]}, allow_nan=False)

    def picture(self) -> Image:
        """A time line by plugin, and a map of the relative change by stage and step; RGB, 1280 pixels wide."""
        from .picture import draw

        return draw(self)

    def __str__(self) -> str:
        header = ("plugin", "where", "stage", "steps", "calls", "ms", "MiB", "change", "most")
        lines: list[Sequence[str]] = [header]
        for total in self.totals():
            parts = [row for row in self.rows if row.place == total.place]
            most = max((row.change or 0.0 for row in parts), default=0.0)
            where = total.where + (f" [{total.phase}]" if total.phase else "")
            lines.append(
                (
                    *(total.plugin, where, total.stage, _steps(parts), str(total.calls)),
                    *(f"{total.seconds * 1000:.1f}", _mebibytes(total), shown(total.change)),
                    "" if total.change is None else shown(most),
                )
            )
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        table = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        ranking = ", ".join(
            f"{item.plugin} {shown(item.change)} ({item.where}{'' if item.step is None else f', step {item.step + 1}'})"
            for item in self.changes()
        )
        return (
            f"{table}\n\nchanged most: {ranking or 'no plugin was in use'}\n"
            f"change: |new - old| / |old|; most: in one step. {self.seconds:.2f} s on {self.device}, measuring "
            f"included; {self.memory}."
        )


def shown(change: float | None) -> str:
    """A relative change for people; ``-`` where it is not known, ``new`` where nothing was there before."""
    if change is None:
        return "-"
    if math.isinf(change):
        return "new"
    return "0" if change == 0 else f"{change:.2g}" if change < 0.0095 else f"{change:.3f}"


def _together(rows: Sequence[TraceRow]) -> TraceRow:
    from dataclasses import replace

    compared = [row for row in rows if row.difference is not None]
    return replace(
        rows[0],
        step=None,
        calls=sum(row.calls for row in rows),
        changed=sum(row.changed for row in rows),
        seconds=math.fsum(row.seconds for row in rows),
        memory=None if all(row.memory is None for row in rows) else sum(row.memory or 0 for row in rows),
        peak=max((row.peak for row in rows if row.peak is not None), default=None),
        difference=math.hypot(*(row.difference or 0.0 for row in compared)) if compared else None,
        reference=math.hypot(*(row.reference or 0.0 for row in compared)) if compared else None,
    )


def _by_change(row: TraceRow) -> tuple[bool, float, float]:
    return row.plugin == "core", 1.0 if row.change is None else -row.change, -row.seconds


def _ratio(difference: float | None, reference: float | None) -> float | None:
    if difference is None or reference is None:
        return None
    return difference / reference if reference else math.inf if difference else 0.0


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _steps(rows: Iterable[TraceRow]) -> str:
    """Which steps, counted from 1 as people do."""
    steps = sorted({row.step for row in rows if row.step is not None})
    if not steps:
        return ""
    if len(steps) == steps[-1] - steps[0] + 1:
        return str(steps[0] + 1) if len(steps) == 1 else f"{steps[0] + 1}-{steps[-1] + 1}"
    return f"{len(steps)} of {steps[0] + 1}-{steps[-1] + 1}"


def _mebibytes(row: TraceRow) -> str:
    if row.memory is None:
        return "-"
    return f"{row.memory / 2**20:+.1f}" + ("" if row.peak is None else f" (peak {row.peak / 2**20:.1f})")
