"""Where pictures go: names chosen, and checked, before anything is computed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sdcore.errors import OutputError
from sdcore.files import check_writable, make_folder, next_free_name, numbered, write_atomic


class Target:
    """The files for the pictures of a request.

    * no ``out``: ``sdcore-SEED.png`` in the current folder, or the next free name;
    * a folder (it exists, or the name ends in /): the same names in it;
    * a file: that name, with a number for each of several pictures; a taken one is an error.

    Raises:
        OutputError: a name is taken, or the place cannot be written.
    """

    def __init__(
        self, out: str | None, seeds: tuple[int, ...], *, overwrite: bool = False, suffix: str = ".png"
    ) -> None:
        self._overwrite = overwrite
        self._seeds = seeds
        self.suffix = suffix
        self._folder: Path | None = None
        self._paths: list[Path] = []
        if out is None or out.endswith(("/", os.sep)) or Path(out).is_dir():
            self._folder = make_folder(out or ".")
            check_writable(self._folder / f".sdcore-check-{os.getpid()}{suffix}")
            return
        if not Path(out).suffix:
            raise OutputError(f"{out!r} names no format: end it in {suffix}, or in / if it is a folder")
        self.suffix = Path(out).suffix
        self._paths = [numbered(out, index, len(seeds)) for index in range(len(seeds))]
        for path in self._paths:
            check_writable(path, overwrite)

    def write(self, index: int, data: bytes) -> Path:
        """Write picture ``index`` of the request."""
        if self._folder is None:
            return write_atomic(self._paths[index], data, overwrite=self._overwrite)
        stem = f"sdcore-{self._seeds[index]}"
        if self._overwrite and self._seeds.count(self._seeds[index]) == 1:
            return write_atomic(self._folder / f"{stem}{self.suffix}", data, overwrite=True)
        while True:
            try:
                return write_atomic(next_free_name(self._folder, stem, self.suffix), data)
            except OutputError as error:
                if error.errno != errno.EEXIST:  # else another process was faster
                    raise
