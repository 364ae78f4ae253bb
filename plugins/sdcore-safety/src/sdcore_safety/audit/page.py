"""The audit as one HTML file: figures, and pictures of every group side by side. Nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .analysis import Shown

THUMBNAIL = 96
MOST_SEEDS = 8
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #8884; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
small { opacity: .7; }
.bar { background: #8883; display: inline-block; height: .7em; width: 12rem; }
.bar i { background: #3b7dd8; display: block; height: 100%; }
.grid img { height: 72px; margin: 1px; width: auto; }
.bad { color: #c0392b; font-weight: 600; }
"""


def page(report: Mapping[str, Any], shown: Sequence[Shown], failed: Sequence[str]) -> str:
    """The page. ``failed`` are the conditions of ``--fail-if`` that hold."""
    parts = [
        f"<h1>{_text(report['name'])}</h1>",
        f"<p>{report['pictures']} pictures, compared by the features <b>{_text(report['features'])}</b>. The audit "
        "measures what this model draws for these prompts and seeds; it says nothing of the data that it learnt from. "
        "Intervals are of 95 %.</p>",
        *(f'<p class="bad">Fails: {_text(condition)}</p>' for condition in failed),
        "<h2>Summary</h2>",
        _table(("figure", "value"), [(name, f"{value:.4f}") for name, value in report["summary"].items()]),
        "<h2>Groups</h2>",
        "<p><small>Vendi score: how many different pictures there seem to be. Distance: mean of 1 &minus; cosine over "
        "pairs. Flagged: harmless prompts whose picture or prompt a safety check would stop.</small></p>",
        _table(
            ("group", "pictures", "Vendi score", "mean distance", "flagged"),
            [
                (
                    group,
                    found["pictures"],
                    _estimate(found["vendi"]),
                    _estimate(found["mean_distance"]),
                    _percent(found["flag_rate"]),
                )
                for group, found in report["groups"].items()
            ],
        ),
        *_contrasts(report["contrasts"]),
        *_lean(report["lean"]),
        "<h2>Pictures</h2>",
        *_grids(shown),
        f"<p><small>Model: {_text(', '.join(f'{k} {v[:12]}' for k, v in report['model'].items()))}. "
        f"Spec: {report['spec_sha256'][:12]}.</small></p>",
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(report['name'])}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _contrasts(found: Mapping[str, Any]) -> Iterable[str]:
    for name, contrast in found.items():
        yield f"<h2>Contrast: {_text(name)}</h2>"
        yield f"<p>Largest difference of groups: <b>{_estimate(contrast['skew'])}</b> (0 and 1 are the two ends).</p>"
        rows = [(group, _estimate(value), _bar(value[0])) for group, value in contrast["groups"].items()]
        yield _table(("group", "mean", "0 to 1"), rows, raw=True)


def _lean(lean: Mapping[str, Any] | None) -> Iterable[str]:
    if lean is None:
        return
    yield "<h2>Without a group</h2>"
    yield "<p>Which group's pictures those are most like whose prompt names none.</p>"
    rows = [(group, _percent(share), _bar(share[0])) for group, share in lean["shares"].items()]
    yield _table(("group", "share", ""), rows, raw=True)


def _grids(shown: Sequence[Shown]) -> Iterable[str]:
    templates = sorted({one.cell.template for one in shown if one.cell.kind == "group"})
    for number in templates:
        rows = [
            f"<tr><td>{_text(one.cell.group)}<br><small>{_text(one.cell.prompt)}</small></td>"
            f'<td class="grid">{"".join(_picture(path) for path in one.paths[:MOST_SEEDS])}</td></tr>'
            for one in shown
            if one.cell.kind == "group" and one.cell.template == number
        ]
        yield f"<table>{''.join(rows)}</table>"


def _picture(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    with io.BytesIO() as stream:
        image.save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]], raw: bool = False) -> str:
    def cell(value: Any, first: bool) -> str:
        text = str(value) if raw and not first else _text(value)
        return f"<td>{text}</td>" if first else f'<td class="n">{text}</td>'

    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(cell(v, n == 0) for n, v in enumerate(row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _estimate(value: Sequence[float]) -> str:
    return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"


def _percent(value: Sequence[float]) -> str:
    return f"{value[0]:.1%} ({value[1]:.1%} to {value[2]:.1%})"


def _bar(share: float) -> str:
    return f'<span class="bar"><i style="width:{min(max(share, 0.0), 1.0):.1%}"></i></span>'


def _text(value: Any) -> str:
    return html.escape(str(value))
