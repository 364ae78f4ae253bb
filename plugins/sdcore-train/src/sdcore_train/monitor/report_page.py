"""The style of the report page, and how text and pictures are put into HTML."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

SMALL = 48_000
"""Pictures of up to this many bytes are put into the page itself."""

STYLE = """
:root { --paper: #fff; --ink: #22242e; --muted: #6b6f7e; --line: #e3e5ec; --soft: #f6f7fa; --mark: #2f6bd6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181f; --ink: #e7e9f0; --muted: #9a9fb0; --line: #2c303c; --soft: #1e212a; --mark: #7aa5f5; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
a { color: var(--mark); }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
h3 { font-size: 15px; margin: 24px 0 8px; }
p { margin: 8px 0; }
.lead, figcaption, .muted { color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 24px 0 0; }
.tile { background: var(--soft); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 20px; font-weight: 600; line-height: 1.3; overflow-wrap: anywhere; }
.tile span { color: var(--muted); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; min-width: 50%; }
th, td { text-align: left; vertical-align: top; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 500; white-space: nowrap; }
td { overflow-wrap: anywhere; }
td.new { color: var(--mark); font-weight: 600; }
figure { margin: 16px 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; background: #fff; }
figure.curve img { width: 100%; max-width: 860px; }
figcaption { font-size: 13px; margin-top: 4px; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; }
pre { padding: 10px 14px; overflow-x: auto; }
code, pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--mark); }
.file { border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; margin: 12px 0; }
.file p { margin: 4px 0; }
"""


def text(value: object) -> str:
    """Anything as text of a page, escaped."""
    return html.escape(str(value), quote=True)


def table(rows: Iterable[Sequence[object]], heading: Sequence[str] = (), marked: Iterable[object] = ()) -> str:
    """A table; the first cell of a row is its name. Rows whose name is in ``marked`` stand out."""
    marks = set(marked)
    head = "<tr>" + "".join(f"<th>{text(cell)}</th>" for cell in heading) + "</tr>" if heading else ""
    body = []
    for name, *cells in rows:
        kind = ' class="new"' if name in marks else ""
        body.append(f"<tr><th>{text(name)}</th>" + "".join(f"<td{kind}>{text(cell)}</td>" for cell in cells) + "</tr>")
    return f'<div class="wide"><table>{head}{"".join(body)}</table></div>'


def figure(folder: Path, picture: Path, caption: str, kind: str = "") -> str:
    """A picture with its caption; nothing if the file is not there.

    It is a link relative to ``folder``, or part of the page if it is small or lies elsewhere.
    """
    if not picture.is_file():
        return ""
    title = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    link = relative(folder, picture)
    if link is None or picture.stat().st_size <= SMALL:
        source = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
        shown = f'<img src="{source}" alt="{text(caption)}">'
    else:
        shown = f'<a href="{link}"><img src="{link}" alt="{text(caption)}" loading="lazy"></a>'
    return f'<figure class="{text(kind)}">{shown}{title}</figure>'


def relative(folder: Path, path: Path) -> str | None:
    """The address of a file as seen from a page in ``folder``; None if it lies outside of it."""
    try:
        below = Path(os.path.abspath(path)).relative_to(os.path.abspath(folder))
    except ValueError:
        return None
    return html.escape(quote(below.as_posix()), quote=True)


def page(title: str, body: Iterable[str]) -> str:
    """A whole page, which needs nothing from anywhere."""
    inner = "\n".join(part for part in body if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n</html>\n"
    )
