"""What was found, put together: a table for the docs, one JSON line, a sheet of pictures."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from .settings import Plan

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
RECOGNISED, DRIFT = 0.8, 0.5
"""The bars: share of each subject's pictures that are recognised, and of the drift that the prior leaves."""


@dataclass(frozen=True)
class Found:
    """Of one subject learnt in one way; shares and distances as the docs define them."""

    subject: str
    plan: str
    fidelity: float
    recognised: float
    background: float
    style: float
    drift: float
    taken: float
    untouched: bool
    seconds: float


COLUMNS = {
    "fidelity": "subject fidelity",
    "recognised": "recognised",
    "background": "background as asked",
    "style": "style as asked",
    "drift": "drift of the class",
    "taken": "class taken over",
}


def means(found: Sequence[Found]) -> dict[str, dict[str, float]]:
    """Means over subjects, by plan."""
    plans = list(dict.fromkeys(one.plan for one in found))
    return {
        plan: {
            name: sum(getattr(one, name) for one in found if one.plan == plan) / sum(one.plan == plan for one in found)
            for name in COLUMNS
        }
        for plan in plans
    }


def summary(
    found: Sequence[Found], base: Mapping[str, float], judge: Mapping[str, float], model: str
) -> dict[str, Any]:
    """The JSON line: means by plan, ratios of drift, and whether the bars are reached (None: not measured)."""
    table = means(found)
    ratio = {
        mode: table[f"{mode}, with prior"]["drift"] / max(1e-9, table[f"{mode}, without prior"]["drift"])
        for mode in ("full", "lora")
        if f"{mode}, with prior" in table and f"{mode}, without prior" in table
    }
    untouched = _all(one.untouched for one in found if one.plan.startswith("lora"))
    return {
        "model": model,
        "subjects": len({one.subject for one in found}),
        "recognised": {plan: round(values["recognised"], 3) for plan, values in table.items()},
        "fidelity": {plan: round(values["fidelity"], 3) for plan, values in table.items()},
        "background": {plan: round(values["background"], 3) for plan, values in table.items()},
        "style": {plan: round(values["style"], 3) for plan, values in table.items()},
        "drift": {plan: round(values["drift"], 4) for plan, values in table.items()},
        "taken": {plan: round(values["taken"], 3) for plan, values in table.items()},
        "drift_ratio": {mode: round(value, 3) for mode, value in ratio.items()},
        "lora_leaves_weights": untouched,
        "bars": {
            "recognised": _all(one.recognised >= RECOGNISED for one in found if one.plan.endswith("with prior")),
            "drift": _all(value <= DRIFT for value in ratio.values()),
            "lora_leaves_weights": untouched,
        },
        "base": {name: round(value, 3) for name, value in base.items()},
        "judge": dict(judge),
    }


def _all(found: Iterable[bool]) -> bool | None:
    """Whether all are true; None if there is none."""
    some = list(found)
    return all(some) if some else None


def learnt(plans: Sequence[Plan]) -> str:
    """How the subjects were learnt, to stand above the table."""
    from sdcore_dreambooth.training import RATES

    ways = {
        plan.mode: f"{plan.mode}: {plan.steps} steps, learning rate {plan.rate:g} "
        f"({plan.rate / RATES[plan.mode]:.0f} times the plugin's default)"
        for plan in plans
    }
    return textwrap.fill("; ".join(ways.values()) + ". The model is small, and takes such rates.", 120)


def table(found: Sequence[Found], base: Mapping[str, float]) -> str:
    """The table of the docs."""
    header = ["", *COLUMNS.values()]
    rows = [header, ["---"] * len(header)]
    rows.append(["before training", *(f"{base[n]:.3f}" if n in base else "" for n in COLUMNS)])
    for plan, values in means(found).items():
        rows.append([plan, *(f"{values[name]:.3f}" for name in COLUMNS)])
    each = sorted({one.subject for one in found}, key=[one.subject for one in found].index)
    plans = list(means(found))
    rows_each = [["subject", *plans], ["---"] * (1 + len(plans))]
    for subject in each:
        mine = {one.plan: one for one in found if one.subject == subject}
        rows_each.append(
            [subject, *(f"{mine[p].recognised:.0%}, drift {mine[p].drift:.3f}" if p in mine else "" for p in plans)]
        )
    return "\n".join(_line(row) for row in rows) + "\n\n" + "\n".join(_line(row) for row in rows_each)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def tell(text: str, about: Mapping[str, Any], docs: Path | None) -> None:
    """Print the table and, last, the JSON line. With a page, the table goes there too."""
    if docs is not None:
        write_table(docs, text)
    print(text)
    print(json.dumps(about))


def write_table(path: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    page = path.read_text(encoding="utf-8") if path.is_file() else f"{BEGIN}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
    beside.replace(path)


def sheet(header: Sequence[str], rows: Sequence[Sequence[Image.Image]], side: int, path: Path) -> None:
    """Pictures in rows, under a header; a name holds for the columns after it that have none."""
    gap, top = 4, 22
    columns = len(header)
    page = Image.new("RGB", (columns * (side + gap) + gap, top + len(rows) * (side + gap)), (246, 246, 246))
    draw = ImageDraw.Draw(page)
    for x, name in enumerate(header):
        draw.text((gap + x * (side + gap), 5), name, fill=(30, 30, 30), font_size=12)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            scaled = picture.resize((side, side), Image.Resampling.BICUBIC)
            page.paste(scaled, (gap + x * (side + gap), top + y * (side + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    page.quantize(256, dither=Image.Dither.NONE).save(beside, "PNG", optimize=True)
    beside.replace(path)
