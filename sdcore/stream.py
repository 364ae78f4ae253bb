"""Stream: a run in a thread, its events as an iterator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .events import Event

if TYPE_CHECKING:
    from .result import Result


class Stream:
    """Iterate over the events of a run; ``result()`` waits for the end, ``cancel()`` stops it.

    An error of the run is raised where the iteration would end, and by ``result()``. Leaving the loop early
    cancels the run; ``result()`` without a loop just waits.
    """

    def __init__(
        self,
        work: Callable[[Callable[[Event], object]], Result],
        cancelled: threading.Event,
        done: Callable[[threading.Event], object],
    ) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._cancelled = cancelled
        self._result: Result | None = None
        self._error: BaseException | None = None

        def carry_out() -> None:
            try:
                self._result = work(self._events.put)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                self._error = error
            finally:
                done(cancelled)
                self._events.put(None)

        self._thread = threading.Thread(target=carry_out, name="sdcore-run", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Event]:
        ended = False
        try:
            while (event := self._events.get()) is not None:
                yield event
            ended = True
        finally:
            if not ended:  # left early: by break, by an exception, or by Ctrl-C
                self._cancelled.set()
        self._events.put(None)  # a second loop ends at once
        self._raise()

    def cancel(self) -> None:
        """Stop before the next U-Net call."""
        self._cancelled.set()

    def result(self) -> Result:
        """Wait for the result; raises what the run raised."""
        self._thread.join()
        self._raise()
        assert self._result is not None
        return self._result

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
