"""Compiled files: Python runs them instead of their source, so they must be what the source gives."""

from __future__ import annotations

import importlib.util
import marshal
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEADER = 16  # bytes before the code in a compiled file (PEP 552)


def stale(sources: Iterable[Path]) -> Iterator[Path]:
    """The sources of which a compiled file that this Python would load is not what they give.

    One that Python would not take, because the source is newer, does no harm. Code objects are compared and not
    bytes, which may differ for the same code.
    """
    for source in sources:
        if source.suffix == ".py":
            for level in ("", "1", "2"):
                compiled = Path(importlib.util.cache_from_source(str(source), optimization=level))
                if compiled.is_file() and not _fits(compiled, source, int(level or 0)):
                    yield source
                    break


def _fits(compiled: Path, source: Path, level: int) -> bool:
    try:
        data, text = compiled.read_bytes(), source.read_bytes()
        if data[:4] != importlib.util.MAGIC_NUMBER or not _is_taken(data, source, text):
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(text, str(source), "exec", dont_inherit=True, optimize=level)
        return bool(marshal.loads(data[_HEADER:]) == code)
    except SyntaxError:
        return False  # there is a compiled file of something else
    except Exception:  # noqa: BLE001 - one that cannot be read is not what the source gives
        return False


def _is_taken(data: bytes, source: Path, text: bytes) -> bool:
    """Whether Python would take this file for the source's: by time and size, or by hash, or unchecked."""
    flags = int.from_bytes(data[4:8], "little")
    if flags & 1:
        return not flags & 2 or data[8:16] == importlib.util.source_hash(text)
    status = source.stat()
    time, size = int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")
    return time == int(status.st_mtime) & 0xFFFFFFFF and size == status.st_size & 0xFFFFFFFF
