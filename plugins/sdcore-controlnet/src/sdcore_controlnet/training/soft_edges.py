"""Canny's edges with a gradient: how far the edges of pictures are from those that were asked for. Tensors only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
UNIT = 100.0
"""Gradient by which a miss counts as one."""
DIAGONAL = 0.41421356
"""Tangent of 22.5 degrees: where Canny changes the neighbours that it compares."""


def gradients(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's derivatives across and down, (n, 1, height, width) each, of the channel where they are largest.

    Args:
        pictures: (n, 3, height, width) in [-1, 1]; derivatives are those of values in 0..255, as OpenCV's.
    """
    kernel = torch.tensor(SOBEL, device=pictures.device, dtype=pictures.dtype)
    count, channels, height, width = pictures.shape
    flat = functional.pad(pictures.clamp(-1.2, 1.2) * 127.5, (1, 1, 1, 1), mode="replicate")
    flat = flat.reshape(count * channels, 1, height + 2, width + 2)
    both = functional.conv2d(flat, torch.stack([kernel, kernel.T])[:, None])
    both = both.reshape(count, channels, 2, height, width)
    which = both.detach().abs().sum(2).argmax(1)[:, None, None].expand(-1, 1, 2, -1, -1)
    chosen = both.gather(1, which)[:, 0]
    return chosen[:, :1], chosen[:, 1:]


def ridges(across: Tensor, down: Tensor) -> Tensor:
    """Where the gradient is largest along its own direction (Canny's thinning), bool (n, 1, height, width)."""
    across, down = across.detach(), down.detach()
    # Whole numbers, as OpenCV's: equal neighbours are then equal.
    size = (across.abs() + down.abs()).round()
    around = functional.pad(size, (1, 1, 1, 1))
    height, width = size.shape[2:]

    def peak(right: int, below: int) -> Tensor:
        def moved(x: int, y: int) -> Tensor:
            return around[:, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width]

        after = moved(right, below)
        return (size > moved(-right, -below)) & ((size > after) if right and below else (size >= after))

    flat = down.abs() < DIAGONAL * across.abs()
    steep = across.abs() < DIAGONAL * down.abs()
    falling = across * down > 0
    return torch.where(flat, peak(1, 0), torch.where(steep, peak(0, 1), torch.where(falling, peak(1, 1), peak(-1, 1))))


def near(values: Tensor) -> Tensor:
    """The largest value within one pixel, left, right, above or below."""
    rows = functional.max_pool2d(values, (1, 3), stride=1, padding=(0, 1))
    columns = functional.max_pool2d(values, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(rows, columns)


def disagreement(pictures: Tensor, wanted: Tensor, low: float, high: float) -> Tensor:
    """Wanted edges that are missing and edges that nobody wants, for each wanted one, (n,).

    A wanted edge is missed by as much as the largest gradient within a pixel of it is below ``high``; an edge counts
    as unwanted, by the logarithm of what it has above ``low``, where no wanted one is within a pixel. Both in units of
    100. 0 where none is wanted: a black control, as ``dropout`` makes, says nothing.

    Args:
        pictures: (n, 3, height, width) in [-1, 1].
        wanted: bool (n, 1, height, width).
        low, high: thresholds of Canny.
    """
    across, down = gradients(pictures)
    size = across.abs() + down.abs()
    missed = functional.relu(high - near(size)) / UNIT * wanted
    unwanted = ridges(across, down) & ~near(wanted.to(size)).bool()
    more = torch.log1p(functional.relu(size - low) / UNIT) * unwanted
    count = wanted.sum((1, 2, 3))
    return torch.where(count > 0, (missed + more).sum((1, 2, 3)) / count.clamp_min(1), 0.0)
