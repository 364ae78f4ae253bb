"""Rates: a bucket of tokens for every name, and a count of what is open at once."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from .errors import ApiError

MOST = 10_000


class Rate:
    """At most so many a minute for each name, in bursts of as many.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_minute: int) -> None:
        """Take a token; ApiError 429 with ``Retry-After`` if there is none."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(name, (float(per_minute), now))
            tokens = min(per_minute, tokens + (now - then) * per_minute / 60)
            allowed = tokens >= 1
            self._buckets[name] = (tokens - 1 if allowed else tokens, now)
            if len(self._buckets) > MOST:  # names of strangers must not fill the memory
                self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - tokens) * 60 / per_minute)
            raise ApiError(
                429,
                "too_many_requests",
                f"{per_minute} requests a minute are allowed; try again in {wait} s",
                {"Retry-After": str(wait)},
            )
