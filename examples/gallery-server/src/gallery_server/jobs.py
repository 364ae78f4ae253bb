"""The queue. A job is accepted when its row is committed, and done when its result is, in one transaction.

States: queued -> running -> done | withheld | failed | cancelled. A job that was running when the process died is
queued again at the next start; its seeds were drawn when it was accepted, so it draws the same pictures.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .database import Database
from .errors import ApiError, not_found

ENDED = ("done", "withheld", "failed", "cancelled")
ATTEMPTS = 3
"""Starts of a job before it is taken for what kills the process."""


@dataclass(frozen=True)
class Job:
    """A row of the queue; ``attempt`` counts its starts."""

    id: str
    owner: str
    kind: str
    body: dict[str, Any]
    state: str
    attempt: int
    cancel: bool
    message: str | None
    result: dict[str, Any] | None
    created: float
    started: float | None
    ended: float | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED

    def public(self, waiting: int | None = None) -> dict[str, Any]:
        """What its owner sees; ``waiting`` is how many are before it."""
        shown = {name: getattr(self, name) for name in ("id", "kind", "state", "message", "result", "created", "ended")}
        return shown | {"request": self.body, "waiting": waiting}


@dataclass(frozen=True)
class PictureRow:
    """What is stored of a finished picture, beside its files."""

    id: str
    place: int
    prompt: str
    seed: int
    width: int
    height: int
    record: str
    verdicts: str


class Jobs:
    """The jobs in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str, kind: str, body: dict[str, Any], limit: int, idempotency_key: str | None) -> Job:
        """Accept a job. When this returns, it is on the disk.

        A second one with the same idempotency key is the first one. One whose body differs is refused.

        Raises:
            ApiError: 429 if the owner has ``limit`` jobs that have not ended; 409 as said.
        """
        # Seeds that the server drew differ between two of the same request.
        text = json.dumps(body, sort_keys=True)
        with self._database.write() as connection:
            if idempotency_key is not None:
                row = connection.execute(
                    "SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?", (owner, idempotency_key)
                ).fetchone()
                if row is not None:
                    if _asked(row["kind"], json.loads(row["body"])) != _asked(kind, body):
                        raise ApiError(
                            409, "idempotency_key_reused", "another request was made with this idempotency key"
                        )
                    return _job(row)
            (unfinished,) = connection.execute(
                "SELECT count(*) FROM jobs WHERE owner = ? AND state IN ('queued', 'running')", (owner,)
            ).fetchone()
            if unfinished >= limit:
                raise ApiError(
                    429,
                    "queue_full",
                    f"{unfinished} of your jobs have not ended, and {limit} may; wait for one, or cancel one",
                    {"Retry-After": "5"},
                )
            row = connection.execute(
                "INSERT INTO jobs (id, owner, idempotency_key, kind, body, created) VALUES (?, ?, ?, ?, ?, ?) "
                "RETURNING *",
                (secrets.token_hex(8), owner, idempotency_key, kind, text, time.time()),
            ).fetchone()
        return _job(row)

    def get(self, owner: str, job: str) -> Job:
        """One job of an owner; ApiError 404 if there is none."""
        row = self._database.read().execute("SELECT * FROM jobs WHERE id = ? AND owner = ?", (job, owner)).fetchone()
        if row is None:
            raise not_found("job")
        return _job(row)

    def list(self, owner: str, limit: int) -> list[Job]:
        """The newest jobs of an owner."""
        rows = (
            self._database.read()
            .execute("SELECT * FROM jobs WHERE owner = ? ORDER BY number DESC LIMIT ?", (owner, limit))
            .fetchall()
        )
        return [_job(row) for row in rows]

    def waiting(self, job: Job) -> int | None:
        """How many jobs are before a queued one: at most; owners take turns, which can only make it fewer."""
        if job.state != "queued":
            return None
        (count,) = (
            self._database.read()
            .execute(
                "SELECT count(*) FROM jobs WHERE state = 'running' OR "
                "(state = 'queued' AND number < (SELECT number FROM jobs WHERE id = ?))",
                (job.id,),
            )
            .fetchone()
        )
        return int(count)

    def take(self) -> Job | None:
        """The next job, now running: the oldest of the owner who was served longest ago, so nobody waits for one."""
        with self._database.write() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'running', started = ?, attempt = attempt + 1 WHERE number = ("
                " SELECT number FROM jobs AS waiting WHERE state = 'queued' ORDER BY"
                " (SELECT coalesce(max(started), 0) FROM jobs AS past WHERE past.owner = waiting.owner), number LIMIT 1"
                ") RETURNING *",
                (time.time(),),
            ).fetchone()
        return None if row is None else _job(row)

    def finish(
        self,
        job: Job,
        state: str,
        message: str | None = None,
        result: dict[str, Any] | None = None,
        pictures: Iterable[PictureRow] = (),
    ) -> Job | None:
        """End a running job together with its pictures. None if it is not this attempt's to end any more."""
        now = time.time()
        with self._database.write() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = ?, message = ?, result = ?, ended = ? "
                "WHERE id = ? AND state = 'running' AND attempt = ? RETURNING *",
                (state, message, None if result is None else json.dumps(result), now, job.id, job.attempt),
            ).fetchone()
            if row is None:
                return None
            for one in pictures:
                values = {**vars(one), "job": job.id, "owner": job.owner, "created": now}
                connection.execute(
                    f"INSERT INTO pictures ({', '.join(values)}) VALUES ({', '.join(':' + name for name in values)})",
                    values,
                )
        return _job(row)

    def cancel(self, owner: str, job: str) -> Job:
        """Cancel a queued job, or ask a running one to stop. One that has ended stays as it is."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE jobs SET cancel = 1, ended = iif(state = 'queued', ?, ended), "
                "state = iif(state = 'queued', 'cancelled', state) "
                "WHERE id = ? AND owner = ? AND state IN ('queued', 'running')",
                (time.time(), job, owner),
            )
        return self.get(owner, job)

    def put_back(self, job: Job) -> None:
        """Queue a running job again: the server stops."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'queued' WHERE id = ? AND state = 'running' AND attempt = ?",
                (job.id, job.attempt),
            )

    def recover(self) -> int:
        """At the start of the only process: queue again what was running. Returns how many that were."""
        with self._database.write() as connection:
            now = time.time()
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', ended = ? WHERE state = 'running' AND cancel = 1", (now,)
            )
            connection.execute(
                "UPDATE jobs SET state = 'failed', ended = ?, message = ? WHERE state = 'running' AND attempt >= ?",
                (now, f"the server stopped {ATTEMPTS} times while it worked on this job", ATTEMPTS),
            )
            return connection.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'").rowcount


def _asked(kind: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A job as its owner asked for it: a seed that the server drew is not part of that."""
    return kind, {name: value for name, value in body.items() if name != ("seed" if body.get("drawn") else "drawn")}


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        owner=row["owner"],
        kind=row["kind"],
        body=json.loads(row["body"]),
        state=row["state"],
        attempt=row["attempt"],
        cancel=bool(row["cancel"]),
        message=row["message"],
        result=None if row["result"] is None else json.loads(row["result"]),
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
    )
