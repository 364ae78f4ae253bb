"""Reading ahead in a thread."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def read_ahead(make: Callable[[int], T], start: int, depth: int) -> Iterator[T]:
    """``make(start), make(start + 1), ...`` without end, of which up to ``depth`` are made before they are asked for.

    The thread ends when the iterator is closed. What ``make`` raises is raised here, in its turn. With a depth
    of 0 there is no thread.
    """
    if depth == 0:
        number = start
        while True:
            yield make(number)
            number += 1
    worker = _Worker(make, start, depth)
    try:
        while True:
            yield worker.take()
    finally:
        worker.stop()


_running: weakref.WeakSet[_Worker[object]] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # A thread that is inside of torch when Python ends would take the process down with it.
    for worker in list(_running):
        worker.stop()


class _Worker(Generic[T]):
    def __init__(self, make: Callable[[int], T], start: int, depth: int) -> None:
        self._make = make
        self._made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()
        self._room = threading.Semaphore(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(start,), name="sdcore-train-data", daemon=True)
        _running.add(self)  # type: ignore[arg-type]  # what it makes does not matter there
        self._thread.start()

    def take(self) -> T:
        made, error = self._made.get()
        self._room.release()
        if error is not None:
            raise error
        return made  # type: ignore[return-value]  # of the two one is there

    def stop(self) -> None:
        self._stopped.set()
        self._room.release()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, number: int) -> None:
        while True:
            self._room.acquire()
            if self._stopped.is_set():
                return
            try:
                self._made.put((self._make(number), None))
            except BaseException as error:  # noqa: BLE001  # it is raised where the batch is asked for
                self._made.put((None, error))
                return
            number += 1
