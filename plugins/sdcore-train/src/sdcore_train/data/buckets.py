"""Aspect-ratio buckets: the sizes that pictures of a data set are brought to, and how.

A batch holds pictures of one size. Cutting all to one square loses what stands at their edges, so sizes of about
the same area, and of different proportions, are provided (NovelAI 2022, "Improvements on Stable Diffusion"; SDXL,
arXiv 2307.01952, section 2.3). Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """How a picture is brought to its bucket: resized to ``resized``, then cut at (``top``, ``left``)."""

    resized: Size
    top: int
    left: int
    scale: float


def bucket_sizes(base: Size, step: int, max_aspect: float) -> tuple[Size, ...]:
    """Sizes whose sides are multiples of ``step`` and whose area is at most that of ``base``.

    For each side the other is as long as the area allows. ``base`` itself is always one of them, also where it is
    wider than ``max_aspect`` (longer side by shorter side) or no multiple of ``step``.

    Returns:
        The sizes, from the tallest to the widest.
    """
    area = base[0] * base[1]
    found = {base}
    for side in range(step, area // step + 1, step):
        other = area // side // step * step
        if other and max(side, other) <= max_aspect * min(side, other):
            found |= {(side, other), (other, side)}
    return tuple(sorted(found, key=lambda size: (size[1] / size[0], size)))


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket whose proportions are nearest to those of a picture (by their quotient); of equals the largest."""
    aspect = math.log(size[1] / size[0])
    return min(buckets, key=lambda b: (round(abs(math.log(b[1] / b[0]) - aspect), 9), -b[0] * b[1], b))


def fit(size: Size, bucket: Size, across: float = 0.5, down: float = 0.5) -> Fit:
    """How a picture of ``size`` covers ``bucket`` with as little as possible cut off.

    Args:
        size: of the picture.
        bucket: the size wanted.
        across, down: in [0, 1], where the cut lies between left and right, top and bottom; 0.5 is the centre.
    """
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    height = max(bucket[0], round(size[0] * scale))
    width = max(bucket[1], round(size[1] * scale))
    top = min(int(down * (height - bucket[0] + 1)), height - bucket[0])
    left = min(int(across * (width - bucket[1] + 1)), width - bucket[1])
    return Fit((height, width), top, left, scale)
