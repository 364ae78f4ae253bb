"""The report of a training: one HTML page beside what the training wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcore.files import make_folder, write_atomic

from .report_page import figure, page, relative, table, text

NAME = "report.html"
_MOST_SKIPPED = 100


@dataclass(frozen=True)
class Made:
    """A file or folder that a training made.

    Attributes:
        path: where it is.
        what: such as "LoRA for the U-Net, 3.1 MB".
        use: how it is used: lines of a shell or of Python; may be empty.
    """

    path: Path
    what: str
    use: str = ""


@dataclass(frozen=True)
class DataFacts:
    """What was trained on.

    Attributes:
        facts: (name, value), such as ("pictures", "1,204").
        buckets: pictures by the size (height, width) of their bucket.
        skipped: (key, reason) of every picture that was left out.
    """

    facts: Sequence[tuple[str, str]] = ()
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Report:
    """What the page says. Every text is escaped; parts that are empty are left out.

    Attributes:
        title: such as "LoRA on sdcore-mini".
        summary: a sentence below it.
        figures: (name, value) of the tiles at the top: steps, time, pictures per second, peak memory, ...
        config: of the training, as JSON has it; nested names are joined by dots.
        defaults: the same with the default values: settings that differ are shown, the others are folded away.
        data: what was trained on.
        curve: picture of the loss curve.
        progress: picture of how samples changed.
        samples: (caption, picture) of sample sheets, oldest first. The last is shown, the others are folded away.
        made: what the training made.
        memory: rows (what for, how much, how it was found).
        notes: sentences, such as that it was resumed at step 500.
    """

    title: str
    summary: str = ""
    figures: Sequence[tuple[str, str]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    data: DataFacts = field(default_factory=DataFacts)
    curve: Path | None = None
    progress: Path | None = None
    samples: Sequence[tuple[str, Path]] = ()
    made: Sequence[Made] = ()
    memory: Sequence[tuple[str, str, str]] = ()
    notes: Sequence[str] = ()


def write_report(folder: str | os.PathLike[str], report: Report) -> Path:
    """Write ``report.html``.

    Pictures below the folder are linked by relative addresses, so that the folder can be moved as a whole; small ones
    and those that lie elsewhere are part of the page.

    Args:
        folder: of the training; made if absent.
        report: what it says.

    Returns:
        The path of the page.

    Raises:
        OutputError: it cannot be written. An older one stands.
    """
    top = make_folder(folder)
    tiles = "".join(
        f'<div class="tile"><b>{text(value)}</b><span>{text(name)}</span></div>' for name, value in report.figures
    )
    body = [
        f"<h1>{text(report.title)}</h1>",
        f'<p class="lead">{text(report.summary)}</p>' if report.summary else "",
        f'<div class="tiles">{tiles}</div>' if tiles else "",
        *(f"<p>{text(note)}</p>" for note in report.notes),
        *_made(top, report.made),
        *_curve(top, report),
        *_samples(top, report),
        *_data(report.data),
        *_settings(report),
        *_memory(report),
    ]
    return write_atomic(top / NAME, page(report.title, body).encode(), overwrite=True)


def _made(top: Path, made: Sequence[Made]) -> list[str]:
    if not made:
        return []
    parts = ["<h2>What it made</h2>"]
    for one in made:
        link = relative(top, one.path)
        if link is None:
            shown = text(one.path)
        else:
            shown = f'<a href="{link}">{text(Path(os.path.relpath(one.path, top)).as_posix())}</a>'
        use = f"<pre>{text(one.use.strip())}</pre>" if one.use.strip() else ""
        parts.append(f'<div class="file"><p><b>{shown}</b> <span class="muted">{text(one.what)}</span></p>{use}</div>')
    return parts


def _curve(top: Path, report: Report) -> list[str]:
    shown = "" if report.curve is None else figure(top, report.curve, "", "curve")
    return ["<h2>Loss</h2>", shown] if shown else []


def _samples(top: Path, report: Report) -> list[str]:
    progress = (
        "" if report.progress is None else figure(top, report.progress, "The first picture of each prompt over time.")
    )
    sheets = [shown for caption, path in report.samples if (shown := figure(top, path, caption))]
    if not progress and not sheets:
        return []
    earlier = f"<details><summary>{len(sheets) - 1} earlier</summary>{''.join(sheets[-2::-1])}</details>"
    return ["<h2>Samples</h2>", progress, *sheets[-1:], earlier if len(sheets) > 1 else ""]


def _data(data: DataFacts) -> list[str]:
    if not data.facts and not data.buckets and not data.skipped:
        return []
    parts = ["<h2>Data</h2>", table(data.facts) if data.facts else ""]
    if data.buckets:
        rows = [(f"{width} x {height}", f"{count:,}") for (height, width), count in sorted(data.buckets.items())]
        parts += ["<h3>Buckets</h3>", table(rows, ("width x height", "pictures"))]
    if data.skipped:
        shown = table(data.skipped[:_MOST_SKIPPED], ("picture", "why"))
        rest = len(data.skipped) - _MOST_SKIPPED
        more = f'<p class="muted">and {rest:,} more</p>' if rest > 0 else ""
        opened = " open" if len(data.skipped) <= 10 else ""
        parts.append(f"<details{opened}><summary>{len(data.skipped):,} left out</summary>{shown}{more}</details>")
    return parts


def _settings(report: Report) -> list[str]:
    if not report.config:
        return []
    rows, defaults = _flat(report.config), set(_flat(report.defaults))
    if not report.defaults:
        return ["<h2>Settings</h2>", table(rows)]
    changed = [row for row in rows if row not in defaults]
    whole = table(rows, marked=[name for name, _ in changed])
    return [
        "<h2>Settings</h2>",
        table(changed) if changed else "<p>All as they are by default.</p>",
        f"<details><summary>All {len(rows)} settings</summary>{whole}</details>",
    ]


def _memory(report: Report) -> list[str]:
    return ["<h2>Memory</h2>", table(report.memory)] if report.memory else []


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{before}{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            rows += [(f"{before}{name}", _entry(item)) for item in value]
        else:
            rows.append((f"{before}{name}", _shown(value)))
    return rows


def _entry(item: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {said}" for key, said in _flat(item) if said not in ("none", '""'))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    if value is None:
        return "none"
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        return str(value)
