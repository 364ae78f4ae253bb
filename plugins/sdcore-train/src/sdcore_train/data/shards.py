"""Rows of tensors under names, kept in safetensors files.

A file holds some hundred rows: one file for each would be too many for large data sets, one for all would have to
be written again after every interruption. Files are written whole or not at all and never changed. What they were
made with (the key) is in the name of their folder, so that rows made with something else are never found; they
stay until somebody deletes the folder.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from sdcore.files import make_folder, write_atomic

if TYPE_CHECKING:
    from torch import Tensor

#: Files that are open at once; systems allow a process about a thousand.
OPEN = 256

_LAYOUT = "sdcore-train-rows-1"


class Shards:
    """Rows on disk.

    Args:
        folder: of the cache; made when the first rows are written.
        key: what the rows depend on besides their names.
    """

    def __init__(self, folder: Path, key: Mapping[str, str]) -> None:
        text = json.dumps(dict(sorted(key.items())))
        self.folder = folder / hashlib.blake2b(f"{_LAYOUT} {text}".encode(), digest_size=8).hexdigest()
        self._key = text
        self._where: dict[str, tuple[Path, int]] = {}
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._lock = Lock()
        self.refresh()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __len__(self) -> int:
        return len(self._where)

    def refresh(self) -> None:
        """Find the rows that other processes have written."""
        for path in sorted(self.folder.glob("*.safetensors")):
            for row, name in enumerate(_names(path)):
                self._where.setdefault(name, (path, row))

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of a row; KeyError if there is none."""
        path, row = self._where[name]
        with self._lock:
            file = self._file(path)
            return {key: file.get_slice(key)[row] for key in file.keys()}  # noqa: SIM118  # not a dict

    def write(self, label: str, names: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Keep rows in a new file.

        Args:
            label: begins the file's name.
            names: of the rows.
            tensors: ``(len(names), ...)`` each.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        from safetensors.torch import save

        make_folder(self.folder)
        digest = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
        path = self.folder / f"{label}-{digest}.safetensors"
        metadata = {"layout": _LAYOUT, "key": self._key, "names": json.dumps(list(names))}
        write_atomic(path, save({name: t.contiguous() for name, t in tensors.items()}, metadata), overwrite=True)
        with self._lock:
            self._open.pop(path, None)
        self._where.update({name: (path, row) for row, name in enumerate(names)})

    def _file(self, path: Path) -> Any:
        from safetensors import safe_open

        file = self._open.get(path)
        if file is None:
            file = self._open[path] = safe_open(path, framework="pt")
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return file


def _names(path: Path) -> list[str]:
    """The names of a file's rows; none if it is not a whole file of ours."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return []
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        end = max(tensor["data_offsets"][1] for tensor in header.values())
        if metadata["layout"] != _LAYOUT or path.stat().st_size != 8 + length + end:
            return []
        names = json.loads(metadata["names"])
        return names if isinstance(names, list) else []
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return []
