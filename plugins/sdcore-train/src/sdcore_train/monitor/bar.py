"""The progress bar of a training."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sdcore.cli.kit import open_bar

EVERY = 60.0
"""Seconds between lines where there is no bar."""


class TrainBar:
    """A bar with loss, learning rate, pictures per second and the time left; without a terminal a line a minute.

    Args:
        total: updates in all.
        start: updates done before, where a training goes on.
        quiet: no bar, and `say` says nothing.
        out: prints a line for the user; None is stderr.
    """

    def __init__(
        self, total: int, start: int = 0, *, quiet: bool = False, out: Callable[[str], object] | None = None
    ) -> None:
        self._quiet = quiet
        self._out = out
        self._loss: float | None = None
        self._seconds = self._pictures = 0.0
        self._total, self._done = total, start
        self._told_at = time.monotonic()
        self._bar: Any = None if quiet else open_bar(total, "step")
        if self._bar is not None and start:
            self._bar.initial = self._bar.n = self._bar.last_print_n = start  # the rate is that of the steps from here
            self._bar.refresh()

    def update(self, *, loss: float, rate: float, pictures: int, seconds: float) -> None:
        """Tell of one update.

        Args:
            loss: of this update; a moving average of about 20 is shown.
            rate: learning rate.
            pictures: of this update, of all processes.
            seconds: that it took.
        """
        self._done += 1
        if self._quiet:
            return
        finite = loss == loss
        self._loss = loss if self._loss is None else self._loss + (0.1 * (loss - self._loss) if finite else 0.0)
        self._pictures = 0.95 * self._pictures + pictures
        self._seconds = 0.95 * self._seconds + seconds
        speed = self._pictures / max(self._seconds, 1e-9)
        if self._bar is None:
            self._told(f"loss {self._loss:.4g}, {speed:.3g} pictures/s")
            return
        self._bar.set_postfix_str(f"loss {self._loss:.4g}, rate {rate:.2e}, {speed:.3g} pictures/s", refresh=False)
        self._bar.update(1)

    def _told(self, state: str) -> None:
        """A line of how far it is, once in a while: for logs."""
        now = time.monotonic()
        if now - self._told_at >= EVERY:
            self._told_at = now
            self.say(f"step {self._done} of {self._total}, {state}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        if self._out is not None:
            self._out(line)
        else:
            print(line, file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away. More calls do nothing."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> TrainBar:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
