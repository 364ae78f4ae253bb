"""Text for terminals: messages, tables, Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdcore.engine import Engine


def clean(text: object) -> str:
    """Text without control characters, which could move the cursor or rename the window."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", str(text))


def say(text: object) -> None:
    """A line of the result."""
    print(clean(text))


def complain(text: object) -> None:
    """A line on stderr."""
    print(clean(text), file=sys.stderr)


def table(rows: Sequence[Sequence[object]], header: Sequence[str] | None = None) -> str:
    """Rows as columns of the same width, under a header."""
    lines = [[clean(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def amount(number: float, unit: str = "") -> str:
    """A count or size for people: ``16.9 M``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.1f} {prefix}{unit}"
    return f"{number:g} {unit}".rstrip()


def to_json(value: Any) -> str:
    """Indented JSON."""
    import json

    return json.dumps(value, indent=2, default=str)


def tolerate_any_text() -> None:
    """Let a prompt with emoji be printed on a terminal that has none, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def cancelled_by_ctrl_c(engine: Engine) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C stops the run before its next U-Net call; a second one stops at once."""
    return at_ctrl_c(engine.cancel)


@contextlib.contextmanager
def at_ctrl_c(act: Callable[[], object]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls ``act``, and a second one acts as ever; nothing changes in other threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def once(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        act()

    signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
