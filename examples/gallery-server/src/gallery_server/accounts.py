"""API keys and the page's sessions. Neither is stored: only their hashes are.

Both are 256 random bits, so a plain SHA-256 of them cannot be searched, and needs no salt and no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from .database import Database

SESSION_SECONDS = 14 * 24 * 3600
_NOBODY = hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class Account:
    """Who asks: the API key's id and name, and the name of its policy."""

    id: str
    name: str
    policy: str


class Accounts:
    """The keys in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, policy: str) -> str:
        """Make a key. It is returned once, and cannot be had again.

        Raises:
            ValueError: the name is taken.
        """
        number, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise ValueError(f"there is a key named {name!r} already: choose another name, or revoke it")
            connection.execute(
                "INSERT INTO keys (id, name, digest, policy, created) VALUES (?, ?, ?, ?, ?)",
                (number, name, _digest(secret), policy, time.time()),
            )
        return f"gs_{number}_{secret}"

    def revoke(self, name: str) -> bool:
        """Refuse a key and its sessions from now on. The name is free again. False if there is no such key."""
        with self._database.write() as connection:
            row = connection.execute("SELECT id FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone()
            if row is None:
                return False
            connection.execute("DELETE FROM sessions WHERE key_id = ?", (row["id"],))
            connection.execute(
                "UPDATE keys SET revoked = ?, name = name || ' (revoked ' || id || ')' WHERE id = ?",
                (time.time(), row["id"]),
            )
        return True

    def all(self) -> list[Account]:
        """Keys that are valid."""
        rows = self._database.read().execute("SELECT * FROM keys WHERE revoked IS NULL ORDER BY created").fetchall()
        return [Account(row["id"], row["name"], row["policy"]) for row in rows]

    def by_key(self, key: str) -> Account | None:
        """Whose key this is. Takes equally long whether the id exists or not."""
        prefix, _, rest = key.partition("_")
        number, _, secret = rest.partition("_")
        row = self._database.read().execute("SELECT * FROM keys WHERE id = ? AND revoked IS NULL", (number,)).fetchone()
        right = hmac.compare_digest(_digest(secret), _NOBODY if row is None else row["digest"])
        if row is None or not right or prefix != "gs":
            return None
        return Account(row["id"], row["name"], row["policy"])

    def open_session(self, account: Account) -> str:
        """A token for the page's cookie."""
        token, now = secrets.token_urlsafe(32), time.time()
        with self._database.write() as connection:
            connection.execute("DELETE FROM sessions WHERE expires < ?", (now,))
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)", (_digest(token), account.id, now + SESSION_SECONDS)
            )
        return token

    def by_session(self, token: str) -> Account | None:
        """Whose session this is. The look-up is by the token's hash, so its time tells nothing about the token."""
        row = (
            self._database.read()
            .execute(
                "SELECT keys.* FROM sessions JOIN keys ON keys.id = key_id "
                "WHERE sessions.digest = ? AND expires > ? AND revoked IS NULL",
                (_digest(token), time.time()),
            )
            .fetchone()
        )
        return None if row is None else Account(row["id"], row["name"], row["policy"])

    def close_session(self, token: str) -> None:
        """Log out."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM sessions WHERE digest = ?", (_digest(token),))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
