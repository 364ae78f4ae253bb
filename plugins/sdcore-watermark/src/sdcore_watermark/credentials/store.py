"""A folder of manifests, found by what the watermark of their picture bears."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from sdcore import RequestError
from sdcore.files import check_writable, make_folder, write_atomic

MOST = 32
MAX_MANIFEST = 16 * 1024 * 1024


class Store:
    """Manifests as ``FOLDER/KEY ID/PAYLOAD/SHA256.c2pa``.

    Several pictures may bear one payload, and one picture may have been saved several times, so a look-up gives a list.
    What is in the folder need not be trusted: whoever reads a manifest checks its signature, and that it
    names the mark.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()

    def prepare(self) -> None:
        """Make the folder, and see that it can be written.

        Raises:
            OutputError: it cannot.
        """
        make_folder(self.folder)
        check_writable(self.folder / ".sdcore-check")

    def add(self, key_id: str, payload: str, manifest: bytes) -> Path:
        """Keep a manifest; one that is there already is left alone.

        Raises:
            OutputError: it cannot be written.
        """
        folder = make_folder(self._place(key_id, payload))
        path = folder / f"{hashlib.sha256(manifest).hexdigest()}.c2pa"
        return path if path.exists() else write_atomic(path, manifest, overwrite=True)

    def find(self, key_id: str, payload: str, most: int = MOST) -> list[bytes]:
        """Manifests of pictures with this mark, the newest first; at most ``most`` of them."""
        folder = self._place(key_id, payload)
        if not folder.is_dir():
            return []
        files = [file for file in folder.glob("*.c2pa") if file.is_file() and file.stat().st_size <= MAX_MANIFEST]
        files.sort(key=lambda file: (-file.stat().st_mtime_ns, file.name))
        return [file.read_bytes() for file in files[:most]]

    def _place(self, key_id: str, payload: str) -> Path:
        for text in (key_id, payload):
            if not re.fullmatch(r"[0-9a-f]{1,64}", text):
                raise RequestError(f"{text!r} names no mark: key id and payload are written in hex")
        return self.folder / key_id / payload
