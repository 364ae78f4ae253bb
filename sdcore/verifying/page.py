"""A verification as one HTML page. What comes out of the picture is untrusted: escaped, and pictures made anew."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sdcore.errors import ImageError
from sdcore.images import load_image

from .text import one_line

if TYPE_CHECKING:
    from .findings import Ancestor, Finding
    from .verification import Verification

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
header { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
header img { max-width: 320px; border: 1px solid var(--line); border-radius: 6px; }
h1 { font-size: 1.2rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; }
section { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin-top: 1rem; }
.verdict { font-weight: 600; padding: .1rem .6rem; border-radius: 1rem; color: #fff; background: #6e7781; }
.trusted { background: var(--good); } .altered, .invalid { background: var(--bad); }
.valid-untrusted, .recovered, .recovered-untrusted { background: var(--warn); }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { text-align: left; font-weight: 500; width: 11rem; vertical-align: top; padding: .15rem .5rem .15rem 0; }
td { overflow-wrap: anywhere; padding: .15rem 0; }
ul.tree { list-style: none; padding-left: 1.2rem; border-left: 2px solid var(--line); }
ul.tree img { max-width: 120px; max-height: 120px; border-radius: 4px; display: block; }
code { overflow-wrap: anywhere; }
"""


def page_of(verification: Verification, thumbnail: bytes) -> str:
    """The page.

    Args:
        verification: what was found.
        thumbnail: the picture as a small JPEG of our own making.
    """
    name, (width, height) = _text(verification.name), verification.size
    kind = _text(verification.format.upper())
    sections = "".join(_section(name, finding, thumbnail) for name, finding in verification.findings.items())
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{name}: {verification.verdict}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n"
        f"{_image(thumbnail, 'the picture')}\n<div>\n<h1>{name}</h1>\n"
        f"<p>{_verdict(verification.verdict)} {_text(verification.meaning)}.</p>\n"
        f"<p>{kind}, {width} x {height} pixels<br><code>sha256 {verification.sha256}</code></p>\n</div>\n</header>\n"
        f"{sections}</body>\n</html>\n"
    )


def _section(name: str, finding: Finding, thumbnail: bytes) -> str:
    rows = "".join(f"<tr><th>{_text(what)}</th><td>{_text(value, 2000)}</td></tr>\n" for what, value in finding.facts)
    table = f"<table>\n{rows}</table>\n" if rows else ""
    history = f"<h3>History</h3>\n{_tree(finding.history, thumbnail)}" if finding.history else ""
    summary = _text(finding.summary, 1000)
    return (
        f"<section>\n<h2>{_text(name)} {_verdict(finding.verdict)}</h2>\n<p>{summary}</p>\n{table}{history}</section>\n"
    )


def _tree(pictures: Iterable[Ancestor], thumbnail: bytes = b"") -> str:
    items = ""
    for one in pictures:
        small = one.thumbnail and _made_anew(one.thumbnail)
        actions = "".join(f"<li>{_text(action)}</li>" for action in one.actions)
        by = f" signed by {_text(one.signer)}" if one.signer else ""
        when = f" at {_text(one.time)}" if one.time else ""
        items += (
            f"<li>{_image(small or thumbnail, 'thumbnail')}<strong>{_text(one.title) or 'untitled'}</strong> "
            f"{_verdict(one.verdict)}{by}{when}"
            f"{f'<ul>{actions}</ul>' if actions else ''}{_tree(one.parents) if one.parents else ''}</li>\n"
        )
    return f'<ul class="tree">\n{items}</ul>\n'


def _made_anew(data: bytes) -> bytes:
    """A thumbnail out of a file, decoded and written again; empty if it is no plain picture."""
    from .verification import small_jpeg

    try:
        return small_jpeg(load_image(data, max_pixels=4_000_000), 160)
    except ImageError:
        return b""


def _image(data: bytes, about: str) -> str:
    if not data:
        return ""
    return f'<img alt="{about}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {verdict}">{verdict}</span>'


def _text(value: object, most: int = 200) -> str:
    return html.escape(one_line(value, most))
