"""How many pictures fit into memory at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run

MOST = 16


def batch_size(run: Run, count: int) -> int:
    """Pictures to denoise together: what the request says, or what should fit into half of the free memory.

    The codec's decoder at full size is the largest tensor of a run: about eight times its first layer's
    channels for every pixel.
    """
    if run.request.batch_size is not None:
        return min(run.request.batch_size, count)
    channels = getattr(run.model.vae.config, "block_out_channels", (64,))[0]
    item = run.model.vae.dtype.itemsize
    each = run.height * run.width * channels * 8 * item
    return max(1, min(count, MOST, _free(run) // 2 // max(each, 1)))


def _free(run: Run) -> int:
    import torch

    if run.device.type == "cuda":
        return int(torch.cuda.mem_get_info(run.device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30
