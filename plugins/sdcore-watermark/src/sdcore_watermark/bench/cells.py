"""What was measured already: one line of JSON for each figure, so that a run that was cut goes on where it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import OutputError

if TYPE_CHECKING:
    from PIL.Image import Image


class Cells:
    """Figures by what they are figures of.

    Args:
        path: of the file that keeps them; None keeps them in memory only.
        settings: what else decides the figures; those that were measured under others are passed over.

    Raises:
        OutputError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None, settings: str = "") -> None:
        self._path = path
        self._settings = f"{importlib.metadata.version('sdcore-watermark')} {settings}"
        self._known: dict[str, Any] = {}
        if path is not None:
            try:
                with path.open("a+", encoding="utf-8") as stream:
                    stream.seek(0)
                    self._read(stream.read())
            except (OSError, UnicodeDecodeError) as error:
                raise OutputError(f"cannot keep figures in {path}: {error}") from error

    def _read(self, text: str) -> None:
        for line in text.splitlines():
            try:
                name, value = json.loads(line)
                self._known[name] = value
            except (ValueError, TypeError):
                continue  # the line that was being written when the run was cut

    def get(self, *what: object) -> Any:
        """The figure, or None."""
        return self._known.get(self._name(what))

    def put(self, value: Any, *what: object) -> None:
        """Keep a figure (JSON values)."""
        self._known[self._name(what)] = value
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write("\n" + json.dumps([self._name(what), value]))

    def _name(self, what: tuple[object, ...]) -> str:
        return " ".join([self._settings, *map(str, what)])


def digest(image: Image) -> str:
    """Names a picture by its pixels."""
    return hashlib.blake2b(f"{image.mode} {image.size}".encode() + image.tobytes(), digest_size=8).hexdigest()
