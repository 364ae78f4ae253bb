"""Reading ahead in processes, for devices that are faster than one thread of Python."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from .errors import DataError

T = TypeVar("T")


class _Made(Generic[T]):
    """A data set of what ``make`` gives for each number, or what it raised."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make

    def __getitem__(self, number: int) -> tuple[T | None, Exception | None]:
        try:
            return self._make(number), None
        except Exception as error:  # noqa: BLE001  # raised again where it is asked for
            return None, error


def _same(made: Any) -> Any:
    return made


def read_in_processes(make: Callable[[int], T], start: int, depth: int, workers: int) -> Iterator[T]:
    """``make(start), make(start + 1), ...`` without end and in order, made by ``workers`` processes.

    They are forks, so that what ``make`` refers to is shared and need not be copied; what it changes stays theirs.
    They end when the iterator is closed.

    Raises:
        DataError: the system cannot fork.
    """
    import torch
    from torch.utils.data import DataLoader

    if "fork" not in multiprocessing.get_all_start_methods():
        raise DataError(f"pictures.workers is {workers}, and this system cannot fork processes: set it to 0")
    loader: Any = DataLoader(
        _Made(make),  # type: ignore[arg-type]  # numbers without end have no length
        batch_size=None,
        sampler=itertools.count(start),
        num_workers=workers,
        prefetch_factor=max(1, -(-depth // workers)),
        collate_fn=_same,
        multiprocessing_context="fork",
        # Without one of its own, it draws from the generator of everyone.
        generator=torch.Generator(),
    )
    for made, error in loader:
        if error is not None:
            raise error
        yield made
