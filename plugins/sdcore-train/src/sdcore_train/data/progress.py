"""How far the reading of a data set is: bars with rate and time left, on terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: Fewer files are looked at before a bar would be seen.
SOON = 2000


def watched(things: Iterator[T]) -> Iterator[T]:
    """The same things, with a bar once there are many."""
    from sdcore.cli.kit import open_bar

    bar = None
    try:
        for count, thing in enumerate(things, 1):
            if count == SOON:
                bar = open_bar(0, "picture")
            if bar is not None:
                bar.update(1)
            yield thing
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def counted(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more of ``total`` are done."""
    from sdcore.cli.kit import open_bar

    bar = open_bar(total, "picture") if shown else None
    try:
        yield (lambda _: None) if bar is None else bar.update
    finally:
        if bar is not None:
            bar.close()
