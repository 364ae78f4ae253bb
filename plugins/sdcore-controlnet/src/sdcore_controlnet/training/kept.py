"""Control pictures that were made once: in memory, and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY = 1 << 30
"""Bytes of pictures that are kept in memory."""


class KeptPictures:
    """Pictures by name.

    Args:
        folder: where they are kept on disk as PNG, made when the first is; None keeps them in memory only.
        memory: bytes that are kept in memory.
    """

    def __init__(self, folder: Path | None, memory: int = MEMORY) -> None:
        self._folder = folder
        self._room = memory
        self._pictures: dict[str, NDArray[Any]] = {}

    def get(self, make: Callable[[], NDArray[Any]], *name: object) -> NDArray[Any]:
        """The picture of a name, uint8 (height, width, 3): made if it is not kept.

        A file that cannot be read, because writing it was interrupted, is made again. A disk that is full costs
        time and nothing else.

        Args:
            make: makes it.
            name: all that it depends on.
        """
        key = hashlib.blake2b("\x1f".join(map(str, name)).encode(), digest_size=16).hexdigest()
        found = self._pictures.get(key)
        if found is not None:
            return found
        path = None if self._folder is None else self._folder / key[:2] / f"{key}.png"
        found = None if path is None else _read(path)
        if found is None:
            found = make()
            if path is not None:
                with contextlib.suppress(OSError):
                    _write(path, found)
        if found.nbytes <= self._room:
            self._room -= found.nbytes
            self._pictures[key] = found
        return found


def _read(path: Path) -> NDArray[Any] | None:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def _write(path: Path, picture: NDArray[Any]) -> None:
    """Beside it first, so that another process never reads half of it."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}-{os.getpid()}.tmp")
    try:
        Image.fromarray(picture).save(beside, format="PNG", compress_level=1)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
