"""SQLite: one file, write-ahead log, short transactions. It holds all that must survive a crash, but for the files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 1
SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, policy TEXT NOT NULL,
    created REAL NOT NULL, revoked REAL
) STRICT;
CREATE TABLE sessions (
    digest BLOB PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys (id), expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL REFERENCES keys (id),
    idempotency_key TEXT, kind TEXT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', attempt INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0,
    message TEXT, result TEXT, created REAL NOT NULL, started REAL, ended REAL,
    UNIQUE (owner, idempotency_key)
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_owner ON jobs (owner, number);
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL REFERENCES jobs (id),
    owner TEXT NOT NULL REFERENCES keys (id), place INTEGER NOT NULL, prompt TEXT NOT NULL, seed INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, record TEXT NOT NULL, verdicts TEXT NOT NULL,
    created REAL NOT NULL, UNIQUE (job, place)
) STRICT;
CREATE INDEX pictures_by_owner ON pictures (owner, number);
CREATE TABLE uploads (
    owner TEXT NOT NULL REFERENCES keys (id), sha256 TEXT NOT NULL, name TEXT NOT NULL, file TEXT NOT NULL,
    kind TEXT NOT NULL, size INTEGER NOT NULL, created REAL NOT NULL, PRIMARY KEY (owner, sha256)
) STRICT;
"""


class Database:
    """Connections to one file, one for each thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        with self.write() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise ValueError(f"{path} was written by a later version of this server (schema {version})")
            if version == 0:
                for statement in SCHEMA.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def read(self) -> sqlite3.Connection:
        """The connection of this thread, outside a transaction."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # Each is used by one thread; the last one to use the database closes all.
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            self._open.append(connection)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            # What was answered with 202 is on the disk, also after a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, on the disk when the block ends, or nothing."""
        connection = self.read()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connections of all threads, which use them no more."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._local = threading.local()
