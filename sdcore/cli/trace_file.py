"""Where a trace goes: its suffix says as what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.errors import RequestError
from sdcore.files import check_writable, write_atomic

if TYPE_CHECKING:
    from sdcore.trace import Trace

SUFFIXES = (".png", ".json", ".txt")


def check_trace_file(file: str, overwrite: bool) -> None:
    """Refuse a file that a trace could not be written to, before anything is computed.

    Raises:
        RequestError: its suffix is none of a trace's. OutputError: it exists, or its folder cannot be written.
    """
    if Path(file).suffix.lower() not in SUFFIXES:
        raise RequestError(f"a trace is written as {', '.join(SUFFIXES)}; {file!r} ends in none of them")
    check_writable(file, overwrite)


def write_trace(trace: Trace, file: str, overwrite: bool) -> Path:
    """Write a trace as a picture, as JSON or as a table."""
    suffix = Path(file).suffix.lower()
    if suffix == ".png":
        from sdcore.picture_files import encode_image

        data = encode_image(trace.picture(), "png", None)
    else:
        data = ((trace.to_json() if suffix == ".json" else str(trace)) + "\n").encode()
    return write_atomic(file, data, overwrite=overwrite)
