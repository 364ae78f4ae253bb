"""Progress: what happens to jobs, for whoever listens, and for whoever comes back after a broken connection.

An event's id is ``attempt * 1,000,000 + n``, so ids also rise over a restart of the server, which forgets steps but not
states: those come from the database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

ATTEMPT = 1_000_000
LAST = ATTEMPT - 1
"""The number of an attempt's last event: its end."""
KEPT = 500


@dataclass(frozen=True)
class Note:
    """One event: ``state`` (something happened to the job), ``step``, ``warning``."""

    id: int
    kind: str
    data: dict[str, Any]


@dataclass
class _Log:
    notes: list[Note] = field(default_factory=list)
    listeners: list[Callable[[], object]] = field(default_factory=list)


class Progress:
    """The events of the jobs of late. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    def tell(self, job: str, attempt: int, kind: str, data: dict[str, Any], *, last: bool = False) -> None:
        """Add an event. Of previews only the newest is kept."""
        with self._lock:
            log = self._log(job)
            base = attempt * ATTEMPT
            number = max(base, log.notes[-1].id if log.notes else 0) + 1
            if "preview" in data:
                log.notes = [
                    replace(note, data={**note.data, "preview": None}) if note.data.get("preview") else note
                    for note in log.notes
                ]
            log.notes.append(Note(base + LAST if last else number, kind, data))
            listeners = list(log.listeners)
        for wake in listeners:
            wake()

    def since(self, job: str, last: int) -> list[Note]:
        """The events after the one with this id."""
        with self._lock:
            log = self._logs.get(job)
            return [note for note in log.notes if note.id > last] if log else []

    @contextmanager
    def listen(self, job: str, wake: Callable[[], object]) -> Iterator[None]:
        """Have ``wake`` called, from other threads, whenever there is something new."""
        with self._lock:
            self._log(job).listeners.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._log(job).listeners.remove(wake)

    def _log(self, job: str) -> _Log:
        log = self._logs.setdefault(job, _Log())
        self._logs.move_to_end(job)
        for old in [name for name, one in self._logs.items() if not one.listeners and name != job]:
            if len(self._logs) <= KEPT:
                break
            del self._logs[old]
        return log
