"""The blocks in which invisible-watermark hides its bits, bit for bit as it does. Pure arithmetic.

One level of the Haar transform, its low-pass band cut into 4x4 blocks, one bit in each: in the largest coefficient but
the first (``dwtDct``, whose name promises a DCT that it does not do).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
BLOCK = 4
SCALE = 36
HALF = 0.7071067811865476


def luma_chroma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) YUV of RGB, rounded as OpenCV does for 8 bits (fixed point of 14 bits)."""
    red, green, blue = (rgb[..., index].astype(np.int64) for index in range(3))
    y = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    u = ((blue - y) * 8061 + (128 << 14) + 8192) >> 14
    v = ((red - y) * 14369 + (128 << 14) + 8192) >> 14
    found: NDArray[np.uint8] = np.clip(np.stack([y, u, v], -1), 0, 255).astype(np.uint8)
    return found


def to_rgb(yuv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The way back, rounded as OpenCV does."""
    y, u, v = (yuv[..., index].astype(np.int64) for index in range(3))
    u, v = u - 128, v - 128
    blue = y + ((u * 33292 + 8192) >> 14)
    green = y + ((u * -6472 + v * -9519 + 8192) >> 14)
    red = y + ((v * 18678 + 8192) >> 14)
    found: NDArray[np.uint8] = np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8)
    return found


def haar(plane: NDArray[np.uint8]) -> tuple[Plane, Plane, Plane, Plane]:
    """Low-pass band and the horizontal, vertical and diagonal details of a plane of even size.

    Multiplied and added in the order of PyWavelets: what is cut off to 8 bits afterwards shows the last digit.
    """
    values = plane.astype(np.float64)
    top, bottom = HALF * values[::2], HALF * values[1::2]
    down_low, down_high = bottom + top, top - bottom
    found = []
    for band in (down_low, down_high):
        left, right = HALF * band[:, ::2], HALF * band[:, 1::2]
        found += [right + left, left - right]
    return found[0], found[2], found[1], found[3]


def unhaar(low: Plane, horizontal: Plane, vertical: Plane, diagonal: Plane) -> Plane:
    """The inverse of :func:`haar`."""
    rows, columns = low.shape
    bands = []
    for one, other in ((low, vertical), (horizontal, diagonal)):
        band = np.empty((rows, columns * 2))
        band[:, ::2], band[:, 1::2] = HALF * one + HALF * other, HALF * one - HALF * other
        bands.append(band)
    found = np.empty((rows * 2, columns * 2))
    found[::2], found[1::2] = HALF * bands[0] + HALF * bands[1], HALF * bands[0] - HALF * bands[1]
    return found


def blocks(low: Plane) -> Plane:
    """(blocks, 16) the 4x4 blocks of a band, row by row."""
    rows, columns = low.shape[0] // BLOCK, low.shape[1] // BLOCK
    cut = low[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, BLOCK * BLOCK)


def write_bits(low: Plane, bits: NDArray[np.uint8]) -> Plane:
    """A band with the bits in its blocks, again and again."""
    rows, columns = low.shape[0] // BLOCK, low.shape[1] // BLOCK
    cut = blocks(low).copy()
    place = np.argmax(np.abs(cut[:, 1:]), 1) + 1
    every = np.arange(len(cut))
    value = cut[every, place]
    bit = bits[every % len(bits)]
    changed = (np.abs(value) // SCALE + 0.25 + 0.5 * bit) * SCALE
    cut[every, place] = np.where(value >= 0, changed, -changed)
    found = low.copy()
    found[: rows * BLOCK, : columns * BLOCK] = (
        cut.reshape(rows, columns, BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(rows * BLOCK, columns * BLOCK)
    )
    return found


def read_bits(low: Plane, count: int) -> NDArray[np.float64]:
    """(count,) for every bit the share of its blocks that say 1."""
    cut = blocks(low)
    place = np.argmax(np.abs(cut[:, 1:]), 1) + 1
    every = np.arange(len(cut))
    said = (np.abs(cut[every, place]) % SCALE > 0.5 * SCALE).astype(np.float64)
    total = np.bincount(every % count, said, count)
    found: NDArray[np.float64] = total / np.maximum(np.bincount(every % count, minlength=count), 1)
    return found
