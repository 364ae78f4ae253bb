"""Masks and control pictures in a folder, which belong to other pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .errors import DataError
from .listing import Listing
from .metadata import About


class Companions:
    """Masks or control pictures: in a folder of their own under the pictures' names, or named in a column.

    Args:
        setting: the option: a folder (below ``root``, or a path), or a column; None is the usual column.
        column: the usual column.
        field: what the option is called.
        root: the folder of the pictures.

    Attributes:
        column: where the metadata names them.
    """

    def __init__(self, setting: str | None, column: str, field: str, root: Path) -> None:
        self.column = column
        self._files: dict[str, str] = {}
        self._below: str | None = None
        self._asked: str | None = None
        if setting is None:
            return
        for folder in (root / setting, Path(setting)):
            if folder.is_dir():
                self._take(folder, root, field)
                return
        if "/" in setting or os.sep in setting:
            raise DataError(f"{field}: there is no folder {setting}, nor {root / setting}: check the path")
        self.column = setting
        self._asked = field

    def check(self, metadata: Mapping[str, About]) -> None:
        """DataError if the option names a column that the metadata has nowhere."""
        if self._asked and not any(self.column in about.columns for about in metadata.values()):
            raise DataError(
                f"{self._asked}: {self.column!r} is neither a folder, below the pictures or here, nor a column of "
                "metadata.jsonl: check the name"
            )

    def named(self, about: About | None) -> str | None:
        """The path that a row of metadata gives."""
        name = None if about is None else about.columns.get(self.column)
        if about is None or not name:
            return None
        if not isinstance(name, str):
            raise DataError(f"{about.where}: its {self.column} is {name!r}: the name of a file is needed")
        return os.path.normpath(os.path.join(about.folder, name))

    def holds(self, relative: str) -> bool:
        """Whether a file below the pictures' folder is one of the companions' folder."""
        return self._below is not None and relative.startswith(self._below)

    def of(self, relative: str, about: About | None) -> str | None:
        """The file that belongs to a picture, or None; OSError if it is named but not there."""
        path = self.named(about)
        if path is None:
            return self._files.get(os.path.splitext(relative)[0])
        if not os.path.isfile(path):
            raise FileNotFoundError(f"its {self.column} {path} is not there")
        return path

    def _take(self, folder: Path, root: Path, field: str) -> None:
        listing = Listing(folder)
        self._files = {os.path.splitext(name)[0]: listing.path(name) for name in listing.pictures}
        if not self._files:
            raise DataError(f"{field}: the folder {folder} holds no pictures")
        inner, outer = folder.resolve(), root.resolve()
        if inner == outer:
            raise DataError(f"{field}: {folder} is the folder of the pictures themselves: give another")
        if inner.is_relative_to(outer):
            self._below = inner.relative_to(outer).as_posix() + "/"
