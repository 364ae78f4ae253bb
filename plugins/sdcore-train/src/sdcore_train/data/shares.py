"""Orders in which every batch holds a fixed number of pictures of some roles (prior preservation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import DataError
from .order import Order, Planned, WeightedOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SharedPlan:
    """A batch of several groups: for each slot, the group's batch and the slot in it."""

    sequence: NDArray[Any] | Sequence[int]
    slots: tuple[tuple[Planned, int], ...]

    def candidates(self, slot: int) -> Iterator[int]:
        """As of `Planned`; a broken picture is replaced by one of its own group."""
        planned, inside = self.slots[slot]
        return planned.candidates(inside)


class SharedOrder:
    """In every process's part of a batch: first pictures of the other roles, then of each role its share.

    Each group has its own order and its own epochs; an epoch of the whole is that of the other roles.

    Args:
        groups: (order, pictures of it in each process's part); the other roles first.
        processes: that train together.
    """

    def __init__(self, groups: Sequence[tuple[Order | WeightedOrder, int]], processes: int) -> None:
        self._groups = groups
        self._processes = processes
        self.batches_per_epoch = groups[0][0].batches_per_epoch

    def at(self, number: int) -> SharedPlan:
        """The batch with a number, counted from the start of the training."""
        planned = [(order.at(number), share) for order, share in self._groups]
        slots = [
            (plan, process * share + inside)
            for process in range(self._processes)
            for plan, share in planned
            for inside in range(share)
        ]
        return SharedPlan(planned[0][0].sequence, tuple(slots))


def shares_of(shares: Mapping[str, int], batch: int, roles: Sequence[str], sizes: int) -> list[tuple[str | None, int]]:
    """(role, pictures in a micro-batch) of each group, None for all other roles first.

    Args:
        shares: of the configuration.
        batch: pictures of a micro-batch.
        roles: of all records.
        sizes: different sizes of pictures.

    Raises:
        DataError: they cannot be.
    """
    rest = batch - sum(shares.values())
    if rest < 1:
        raise DataError(
            f"pictures.shares is {dict(shares)} and batch_size {batch}: no place is left for pictures of other roles"
        )
    for role in shares:
        if role not in roles:
            raise DataError(f"pictures.shares: no source with the role {role!r} has pictures")
    if all(role in shares for role in roles):
        raise DataError("pictures.shares: all pictures have a role with a share; the rest of a batch has none")
    if sizes > 1:
        raise DataError("pictures.shares needs pictures of one size: set pictures.buckets to false")
    return [(None, rest), *shares.items()]
