"""The gallery: rows of finished pictures."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from .database import Database
from .errors import not_found
from .files import DataFolder


class Pictures:
    """The pictures in a data folder."""

    def __init__(self, database: Database, folder: DataFolder) -> None:
        self._database = database
        self._folder = folder

    def list(self, owner: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """An owner's pictures, the newest first; ``before`` is the number of the last one of the page before."""
        rows = self._database.read().execute(
            "SELECT * FROM pictures WHERE owner = ? AND number < ? ORDER BY number DESC LIMIT ?",
            (owner, 2**62 if before is None else before, limit),
        )
        return [_public(row) for row in rows]

    def get(self, owner: str, picture: str) -> dict[str, Any]:
        """One picture with its record; ApiError 404."""
        row = self._row(owner, picture)
        return _public(row) | {"record": json.loads(row["record"])}

    def check(self, owner: str, picture: str) -> str:
        """The id, if it is this owner's; ApiError 404. Only then may it become part of a path."""
        return str(self._row(owner, picture)["id"])

    def remove(self, owner: str, picture: str) -> None:
        """Delete a picture: the row first, so that a crash leaves no row without files."""
        self.check(owner, picture)
        with self._database.write() as connection:
            connection.execute("DELETE FROM pictures WHERE id = ? AND owner = ?", (picture, owner))
        self._folder.remove_picture(picture)

    def ids(self) -> set[str]:
        """The ids of all."""
        return {row["id"] for row in self._database.read().execute("SELECT id FROM pictures")}

    def _row(self, owner: str, picture: str) -> sqlite3.Row:
        row: sqlite3.Row | None = (
            self._database.read()
            .execute("SELECT * FROM pictures WHERE id = ? AND owner = ?", (picture, owner))
            .fetchone()
        )
        if row is None:
            raise not_found("picture")
        return row


def _public(row: sqlite3.Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "number", "job", "prompt", "seed", "width", "height", "created")}
    return shown | {
        "verdicts": json.loads(row["verdicts"]),
        "file": f"/pictures/{row['id']}.png",
        "thumbnail": f"/thumbnails/{row['id']}.webp",
    }
