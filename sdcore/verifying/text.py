"""A verification for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .findings import Ancestor, Finding
    from .verification import Verification


def one_line(value: object, most: int = 200) -> str:
    """A value out of a file as one printable line of at most 200 characters."""
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else "?" for c in text[:most]) + ("..." if len(text) > most else "")


def text_of(verification: Verification) -> str:
    """The verdict, then every finding with its facts and its history."""
    width, height = verification.size
    lines = [
        f"{one_line(verification.name)}  {verification.format.upper()} {width}x{height}",
        f"{verification.verdict.upper()}: {verification.meaning}",
    ]
    for name, finding in verification.findings.items():
        lines += ["", *_finding(name, finding)]
    return "\n".join(lines)


def _finding(name: str, finding: Finding) -> Iterator[str]:
    yield f"{name}: {finding.verdict}: {one_line(finding.summary, 400)}"
    wide = max((len(what) for what, _ in finding.facts), default=0)
    for what, value in finding.facts:
        yield f"  {one_line(what):{wide}}  {one_line(value)}"
    if finding.history:
        yield "  history, the newest first"
        yield from _history(finding.history, 4)


def _history(pictures: Iterable[Ancestor], indent: int) -> Iterator[str]:
    for one in pictures:
        by = f", signed by {one_line(one.signer)}" if one.signer else ""
        yield f"{' ' * indent}{one_line(one.title) or 'untitled'}: {one.verdict}{by}"
        for action in one.actions:
            yield f"{' ' * indent}  - {one_line(action)}"
        yield from _history(one.parents, indent + 4)
