"""Which pictures each batch holds: a pure function of the seed and of the batch's number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from .draws import permutation, uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Planned:
    """A batch: visits ``places`` of ``sequence``, which holds indices of records of one bucket."""

    sequence: NDArray[Any] | Sequence[int]
    places: tuple[int, ...]

    def candidates(self, slot: int) -> Iterator[int]:
        """The record at a slot of the batch, then those that stand in for it if it is broken, each once.

        They are the ones that follow in the sequence, so which one is taken does not depend on when it was found
        out that a picture is broken.
        """
        seen: set[int] = set()
        for step in range(len(self.sequence)):
            index = int(self.sequence[(self.places[slot] + step) % len(self.sequence)])
            if index not in seen:
                seen.add(index)
                yield index


class Order:
    """The order in which every picture is visited once an epoch.

    Each bucket has a permutation of its own, cut into batches; the last one is filled up from the front of the
    same permutation. The batches of all buckets are then shuffled.

    Args:
        seed: of the training.
        buckets: indices of the records of each bucket; one that stands there twice is visited twice.
        batch: pictures of a whole batch, of all processes together.
    """

    def __init__(self, seed: int, buckets: Sequence[Sequence[int]], batch: int) -> None:
        self._seed = seed
        self._buckets = buckets
        self._batch = batch
        self._counts = [-(-len(bucket) // batch) for bucket in buckets]
        self._epoch = -1
        self._sequences: list[NDArray[Any]] = []
        self._turns: list[tuple[int, int]] = []
        self.batches_per_epoch = sum(self._counts)

    def at(self, number: int) -> Planned:
        """The batch with a number, counted from the start of the training."""
        epoch, turn = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        bucket, first = self._turns[turn]
        sequence = self._sequences[bucket]
        places = tuple((first + i) % len(sequence) for i in range(self._batch))
        return Planned(sequence, places)

    def _shuffle(self, epoch: int) -> None:
        import numpy as np

        self._sequences = [
            np.asarray(bucket)[permutation(len(bucket), self._seed, "order", epoch, index)]
            for index, bucket in enumerate(self._buckets)
        ]
        turns = [(i, j * self._batch) for i, count in enumerate(self._counts) for j in range(count)]
        self._turns = [turns[i] for i in permutation(len(turns), self._seed, "batches", epoch)]
        self._epoch = epoch


class WeightedOrder:
    """Pictures drawn with replacement, each with a probability in proportion to its weight.

    A bucket is drawn by the sum of its weights, then the pictures of the batch within it, so that over the
    training each picture is as likely as its weight says.

    Args:
        seed: of the training.
        buckets: indices of the records of each bucket.
        weights: above 0, one for each of those indices.
        batch: pictures of a whole batch, of all processes together.
    """

    def __init__(
        self, seed: int, buckets: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], batch: int
    ) -> None:
        self._seed = seed
        self._buckets = buckets
        self._batch = batch
        self._sums = [list(accumulate(row)) for row in weights]
        self._bucket_sums = list(accumulate(row[-1] for row in self._sums))
        self.batches_per_epoch = -(-sum(map(len, buckets)) // batch)

    def at(self, number: int) -> Planned:
        """The batch with a number, counted from the start of the training."""
        first, *rest = uniforms(1 + self._batch, self._seed, "draw", number)
        bucket = _drawn(first, self._bucket_sums)
        return Planned(self._buckets[bucket], tuple(_drawn(u, self._sums[bucket]) for u in rest))


def _drawn(uniform: float, sums: Sequence[float]) -> int:
    return min(bisect_right(sums, uniform * sums[-1]), len(sums) - 1)


def score_weights(scores: Sequence[float | None], power: float) -> list[float]:
    """Weights of pictures by the rank of their score in (0, 1], to a power.

    Equal scores share the mean of their ranks. Those without a score count as the median.
    """
    import numpy as np

    known = np.array([score for score in scores if score is not None], dtype=np.float64)
    count = len(known)
    _, which, sizes = np.unique(known, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks = iter(((ends - (sizes - 1) / 2) / max(count, 1))[which].tolist())
    median = (count + 1) / (2 * count) if count else 1.0
    return [(median if score is None else next(ranks)) ** power for score in scores]
