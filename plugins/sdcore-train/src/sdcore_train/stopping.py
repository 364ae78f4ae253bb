"""Ctrl-C ends a training after the update under way, so that what is done can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_ctrl_c(alone: bool) -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C is only noted: what is given tells whether there was one. A second one acts at once.

    Outside of the main thread nothing changes, nor where several processes train together: each could note it after
    another update, and then wait for the others without end.

    Args:
        alone: whether this is the only process.
    """
    asked = threading.Event()
    if not alone or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
