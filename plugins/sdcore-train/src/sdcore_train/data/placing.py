"""Which bucket each picture goes to, and what is said when pictures are too small or too few."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdcore_train.config import TrainConfig
from sdcore_train.records import Record

from .buckets import Size, bucket_sizes, fit, nearest_bucket
from .errors import DataError
from .skips import Skips, some


def bucket_sizes_of(config: TrainConfig, size: Size, multiple: int) -> tuple[Size, ...]:
    """The sizes that pictures may have; DataError if the model cannot take the base size.

    Args:
        config: of the training.
        size: the base size.
        multiple: what sizes must be multiples of.
    """
    if size[0] % multiple or size[1] % multiple or min(size) < 1:
        near = tuple(max(multiple, round(side / multiple) * multiple) for side in size)
        raise DataError(
            f"pictures: the size is {size[0]}x{size[1]} (height x width), but this model needs multiples of "
            f"{multiple}: take {near[0]}x{near[1]}"
        )
    if not config.pictures.buckets:
        return (size,)
    step = config.pictures.bucket_step or min(64, max(multiple, min(size) // 8 // multiple * multiple))
    return bucket_sizes(size, math.lcm(step, multiple), config.pictures.max_aspect)


def place(
    records: Sequence[Record], sizes: Sequence[Size], config: TrainConfig, skips: Skips
) -> list[tuple[Record, Size]]:
    """Each record with its bucket; those that are too small are dealt with."""
    known: dict[Size, Size] = {}
    placed, small = [], []
    for record in records:
        bucket = known.get(record.size)
        if bucket is None:
            bucket = known[record.size] = nearest_bucket(record.size, sizes)
        if config.pictures.small != "enlarge" and fit(record.size, bucket).scale > 1:
            small.append((record, bucket))
        else:
            placed.append((record, bucket))
    if small and config.pictures.small == "error":
        names = some([f"{r.key} ({r.size[0]}x{r.size[1]} for {b[0]}x{b[1]})" for r, b in small])
        raise DataError(
            f"{len(small)} pictures are smaller than their bucket (height x width): {names}. Train at a smaller "
            "size, or set pictures.small to 'skip' or 'enlarge'"
        )
    for record, bucket in small:
        skips.leave_out(record.key, f"{record.size[0]}x{record.size[1]} pixels are too few for {bucket[0]}x{bucket[1]}")
    return placed


def reasons(skips: Skips) -> str:
    """Why the first few pictures were left out."""
    pairs = skips.pairs
    return "; ".join(f"{key}: {reason}" for key, reason in pairs[:3]) + ("; ..." if len(pairs) > 3 else "")


def too_few(visits: int, batch: int, processes: int) -> str:
    """What is wrong when there are fewer pictures than a batch has, and what to do."""
    together = f" of {processes} processes" if processes > 1 else ""
    return (
        f"data: {visits} pictures are fewer than a batch ({batch * processes}{together}): set batch_size to "
        f"{max(1, visits // processes)} or less (and `accumulate` for larger updates), or `repeats` of the source to "
        f"{-(-batch * processes // visits)} or more"
    )
