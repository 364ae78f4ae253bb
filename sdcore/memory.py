"""How many pictures fit into memory at a time, and what happens when they did not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .calling import is_out_of_memory
from .errors import OutOfMemoryError

if TYPE_CHECKING:
    from .run import Run

MOST = 16
T = TypeVar("T")


def batch_size(run: Run, count: int) -> int:
    """Pictures to denoise together: what the request says, or what should fit into half of the free memory.

    The codec's decoder at full size is the largest tensor of a run: about eight times its first layer's
    channels for every pixel.
    """
    if run.request.batch_size is not None:
        return min(run.request.batch_size, count)
    channels = int(getattr(run.model.vae.config, "block_out_channels", (64,))[0])
    each = run.height * run.width * channels * 8 * int(run.model.vae.dtype.itemsize)
    return max(1, min(count, MOST, _free(run) // 2 // max(each, 1)))


def in_batches(
    count: int,
    size: int,
    carry_out: Callable[[Sequence[int], int, int], T],
    warn: Callable[[str], object],
    what: str,
) -> list[T]:
    """Carry out ``count`` pictures, ``size`` at a time; when memory runs out, once more with half as many.

    Args:
        count: pictures in all.
        size: pictures at a time.
        carry_out: called with (places of the pictures, number of the batch, number of batches).
        warn: told when the batches become smaller.
        what: what is made, for the error: ``"pictures of 512x512"``.

    Raises:
        OutOfMemoryError: the smaller batch did not fit either, or there is none.
    """
    done: list[T] = []
    at, smaller = 0, False
    while at < count:
        indices = range(at, min(at + size, count))
        try:
            done.append(carry_out(indices, len(done) + 1, len(done) + -(-(count - at) // size)))
        except Exception as error:
            if not is_out_of_memory(error) or isinstance(error, OutOfMemoryError):
                raise
            _forget_frames(error)
            if smaller or len(indices) == 1:
                raise OutOfMemoryError(
                    f"{what}, {len(indices)} at a time, do not fit into memory; use a smaller size, batch_size=1, "
                    "or half precision"
                ) from error
            smaller, size = True, (len(indices) + 1) // 2
            warn(f"{len(indices)} {what} did not fit into memory together; going on with {size} at a time")
        else:
            at = indices.stop
    return done


def _forget_frames(error: BaseException) -> None:
    """Let go of the tensors that the frames of an error hold, and of what the device's allocator keeps for them."""
    import gc

    import torch

    found: BaseException | None = error
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _free(run: Run) -> int:
    import torch

    if run.device.type == "cuda":
        return int(torch.cuda.mem_get_info(run.device)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):  # with the file cache, which gives way
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30
