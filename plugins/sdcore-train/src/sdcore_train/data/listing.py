"""The files below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from sdcore_train.monitor.log import LOG

from .errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


class Listing:
    """The files below a folder by their relative paths, with "/" on every system.

    Files and folders whose names begin with a dot are passed over, and so are outputs of trainings below the root.

    Args:
        root: the folder.
        but: a folder that is passed over.
    """

    def __init__(self, root: Path, but: Path | None = None) -> None:
        self.root = os.fspath(root)
        self.files: set[str] = set()
        seen = set() if but is None else {os.path.realpath(but)} - {os.path.realpath(root)}
        for place, folders, names in os.walk(self.root, followlinks=True, onerror=_unreadable):
            real = os.path.realpath(place)
            below_root = os.path.realpath(self.root) != real
            if real not in seen and below_root and LOG in names and "checkpoints" in folders:
                seen.add(real)  # its samples and its loss curve are no data
            folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
            if real not in seen:
                below = os.path.relpath(place, self.root).replace(os.sep, "/")
                prefix = "" if below == "." else below + "/"
                self.files |= {prefix + name for name in names if not name.startswith(".")}
            seen.add(real)

    @property
    def pictures(self) -> list[str]:
        """The relative paths of those that have the extension of a picture, in no order."""
        return [name for name in self.files if os.path.splitext(name)[1].lower() in EXTENSIONS]

    def path(self, relative: str) -> str:
        """The path of a file."""
        return os.path.normpath(os.path.join(self.root, relative))


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror}): check its rights") from error
