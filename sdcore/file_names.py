"""Names for several files, and names that are free."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import OutputError


def next_free_name(folder: str | os.PathLike[str], stem: str, suffix: str) -> Path:
    """The first free name of ``stem.png``, ``stem-2.png``, ``stem-3.png``, ... in a folder.

    Another process may take it before it is written: :func:`write_atomic` then raises, and one asks again.

    Raises:
        OutputError: ``stem`` or ``suffix`` holds a path separator.
    """
    name = f"{stem}{suffix}"
    if not stem or any(separator in name for separator in "/\\\0"):
        raise OutputError(f"{name!r} is no file name: leave out / and \\")
    try:
        # Compared without case, as some file systems do.
        taken = {entry.lower() for entry in os.listdir(folder)}
    except OSError:
        taken = set()
    number = 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}{suffix}"
    return Path(folder) / name


def numbered(path: str | os.PathLike[str], index: int, count: int) -> Path:
    """The name of picture ``index``, counted from 0, of ``count``: ``apple.png`` becomes ``apple-1.png``.

    One picture alone keeps the name. Numbers have the same width, so that names sort as the pictures do.
    """
    path = Path(path)
    if count == 1:
        return path
    return path.with_name(f"{path.stem}-{index + 1:0{len(str(count))}d}{path.suffix}")
