"""The log of a training: one JSON object a line, in a file that only grows."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sdcore import OutputError
from sdcore.files import write_atomic

LOG = "log.jsonl"
"""In the output folder of every training."""


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a log, in order; none if there is no file.

    Lines that are no JSON object with a step are left out: of a process that was killed while it wrote, or of a full
    disk.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


class Log:
    """Writes rows to a log, each at once, so that a kill loses at most the one being written.

    Args:
        path: the file. What it holds of up to ``start`` updates is kept, the rest is dropped: these updates are done
            again.
        start: updates that are done already. With 0 the log starts anew.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], start: int = 0) -> None:
        self.path = Path(path)
        self.rows = [row for row in read_log(path) if row["step"] <= start] if start else []
        write_atomic(self.path, "".join(_line(row) for row in self.rows).encode(), overwrite=True)
        self._file = self.path.open("a", encoding="utf-8")
        self._torn = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row, also to ``rows``.

        Args:
            row: ``step`` is the number of updates done; the rest is free. Numbers that are not finite become null.

        Raises:
            OutputError: it cannot be written (the next row starts on a new line all the same).
        """
        self.rows.append(dict(row))
        try:
            # A line that was torn off must not spoil this one.
            self._file.write(("\n" if self._torn else "") + _line(row))
            self._file.flush()
            self._torn = False
        except OSError as error:
            self._torn = True
            raise OutputError(f"{self.path} cannot be written: {error.strerror}. Free some space and resume") from error

    def close(self) -> None:
        """Close the file. More calls do nothing."""
        with contextlib.suppress(OSError):  # a full disk: `write` has told
            self._file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
