"""Uploads: kept for each owner under the hash of their bytes. What the sender calls a file never becomes a path."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from sdcore import ImageError
from sdcore.images import load_image

from .config import Limits
from .database import Database
from .errors import ApiError, not_found
from .files import DataFolder

_PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}
_MOST_HEADER = 16 * 2**20


class Uploads:
    """The uploads in a data folder."""

    def __init__(self, database: Database, folder: DataFolder) -> None:
        self._database = database
        self._folder = folder

    async def receive(self, owner: str, name: str, chunks: AsyncIterator[bytes], limits: Limits) -> dict[str, Any]:
        """Take a file as it arrives; it counts against the limits before it is on the disk.

        Raises:
            ApiError: 413 too large, 422 neither a picture nor safetensors.
        """
        room = limits.stored_bytes - await run_in_threadpool(self._stored, owner)
        most = min(limits.upload_bytes, room)
        incoming = self._folder.uploads / f".incoming-{secrets.token_hex(8)}"
        digest, size = hashlib.sha256(), 0
        try:
            with incoming.open("wb") as stream:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise ApiError(
                            413,
                            "too_large",
                            f"an upload may have {limits.upload_bytes:,} bytes, and you have room for "
                            f"{max(room, 0):,}; send a smaller file, or delete uploads",
                        )
                    digest.update(chunk)
                    await run_in_threadpool(stream.write, chunk)
            return await run_in_threadpool(self._keep, owner, name, incoming, digest.hexdigest(), size, limits)
        finally:
            incoming.unlink(missing_ok=True)

    def _keep(self, owner: str, name: str, incoming: Path, sha256: str, size: int, limits: Limits) -> dict[str, Any]:
        kind, suffix = _recognise(incoming, limits.pixels)
        file = f"{owner}/{sha256}.{suffix}"
        (self._folder.uploads / owner).mkdir(exist_ok=True)
        incoming.replace(self._folder.uploads / file)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name",
                (owner, sha256, _shown(name), file, kind, size, time.time()),
            )
        return {"id": sha256, "name": _shown(name), "kind": kind, "size": size}

    def _stored(self, owner: str) -> int:
        query = "SELECT coalesce(sum(size), 0) FROM uploads WHERE owner = ?"
        return int(self._database.read().execute(query, (owner,)).fetchone()[0])

    def list(self, owner: str) -> list[dict[str, Any]]:
        """What an owner has, the newest first."""
        rows = self._database.read().execute(
            "SELECT sha256 AS id, name, kind, size FROM uploads WHERE owner = ? ORDER BY created DESC", (owner,)
        )
        return [dict(row) for row in rows]

    def path(self, owner: str, sha256: str) -> Path:
        """Where an upload is; ApiError 404 if this owner has none of that hash."""
        row = (
            self._database.read()
            .execute("SELECT file FROM uploads WHERE owner = ? AND sha256 = ?", (owner, sha256))
            .fetchone()
        )
        if row is None:
            raise not_found("upload")
        return self._folder.uploads / str(row["file"])

    def folder(self, owner: str) -> Path:
        """Where all of an owner's uploads are; it may not exist."""
        return self._folder.uploads / owner

    def remove(self, owner: str, sha256: str) -> None:
        """Delete an upload. Jobs that name it and have not run will fail and say so."""
        path = self.path(owner, sha256)
        with self._database.write() as connection:
            connection.execute("DELETE FROM uploads WHERE owner = ? AND sha256 = ?", (owner, sha256))
        path.unlink(missing_ok=True)

    def files(self) -> set[str]:
        """The files that have a row."""
        return {row["file"] for row in self._database.read().execute("SELECT file FROM uploads")}


def _recognise(path: Path, max_pixels: int) -> tuple[str, str]:
    """Kind and suffix by content. A picture is decoded whole; of safetensors the header is read.

    Raises:
        ApiError: 422, it is neither.
    """
    with path.open("rb") as stream:
        head = stream.read(12)
        length = int.from_bytes(head[:8], "little")
        header = b""
        if 2 <= length <= min(path.stat().st_size - 8, _MOST_HEADER):
            stream.seek(8)
            header = stream.read(length)
    for magic, suffix in _PICTURES.items():
        if head.startswith(magic):
            try:
                load_image(path, max_pixels=max_pixels)
            except ImageError as error:
                raise ApiError(422, "not_a_picture", str(error).replace(str(path), "the upload")) from None
            return "picture", suffix
    try:
        if isinstance(json.loads(header), dict):
            return "weights", "safetensors"
    except (ValueError, RecursionError):
        pass
    raise ApiError(422, "unknown_file", "an upload is a PNG, JPEG or WebP picture, or a .safetensors file")


def _shown(name: str) -> str:
    kept = "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    return kept[:100] or "upload"
