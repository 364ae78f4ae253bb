"""Finding by how much a picture was scaled and turned, without the key: the tiles repeat, and that shows.

The autocorrelation of a whitened picture has peaks at the corners of the tiles' lattice. Candidates of (scale, angle)
are scored by the sum of the autocorrelation at the lattice points nearest the origin, all of them in one look-up; the
keyed search then decides. Turns by quarters and mirrors are left to that search.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .perception import box, luma, whiten

Array = NDArray[np.float32]

SCALES = (0.23, 3.2)
ANGLE = 45.0
STEP_SCALE, STEP_ANGLE = 0.004, 0.4
LATTICE = (
    (1, 0),
    (0, 1),
    (1, 1),
    (1, -1),
    (2, 0),
    (0, 2),
    (2, 1),
    (1, 2),
    (2, -1),
    (1, -2),
    (2, 2),
    (2, -2),
    (3, 0),
    (0, 3),
)


@dataclass(frozen=True)
class Geometry:
    """How a picture differs from the marked one.

    Attributes:
        scale: size in pixels of what was one pixel.
        angle: degrees by which it is turned counter-clockwise.
        mirror: whether it is mirrored left to right.
        shift: (down, right) of the pattern, in pixels of the marked picture.
    """

    scale: float = 1.0
    angle: float = 0.0
    mirror: bool = False
    shift: tuple[float, float] = (0.0, 0.0)


class View:
    """A picture that can be looked at at any scale and angle.

    Args:
        pixels: (height, width, 3).
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.plane = luma(pixels)
        self.white = whiten(self.plane)
        self._levels: dict[int, Array] = {0: self.white}

    def at(self, scale: float, angle: float, most: int | None = None) -> Array:
        """The whitened picture as it was before it was scaled by ``scale`` and turned by ``angle`` degrees.

        With ``most``, no more than so many pixels of a side, from the middle.
        """
        from PIL import Image

        level = round(math.log2(scale) - 0.2)
        white = self._level(level)
        rest = scale / 2.0**level
        if abs(rest - 1) < 1e-6 and abs(angle) < 1e-6 and most is None:
            return white
        height, width = white.shape
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        wide = math.ceil((width * abs(cos) + height * abs(sin)) / rest)
        high = math.ceil((width * abs(sin) + height * abs(cos)) / rest)
        if most is not None:
            wide, high = min(wide, most), min(high, most)
        a, b, c, d = cos * rest, sin * rest, -sin * rest, cos * rest
        x, y = (width - a * wide - b * high) / 2, (height - c * wide - d * high) / 2
        seen = Image.fromarray(white).transform(
            (wide, high), Image.Transform.AFFINE, (a, b, x, c, d, y), Image.Resampling.BICUBIC
        )  # fmt: skip
        return np.asarray(seen, np.float32)

    def _level(self, level: int) -> Array:
        """The whitened picture, reduced by 2**level beforehand (enlarged where the level is negative)."""
        if level not in self._levels:
            from PIL import Image

            height, width = self.plane.shape
            size = (max(round(width / 2.0**level), 8), max(round(height / 2.0**level), 8))
            how = Image.Resampling.BOX if level > 0 else Image.Resampling.BICUBIC
            self._levels[level] = whiten(np.asarray(Image.fromarray(self.plane).resize(size, how), np.float32))
        return self._levels[level]


def autocorrelation(white: Array) -> Array:
    """Autocorrelation, origin in the middle, divided by the overlap and scaled to standard deviations of its noise."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    height, width = white.shape
    size = next_fast_len(2 * height, True), next_fast_len(2 * width, True)
    calm = np.clip(white, -3, 3)
    spectrum = rfft2(calm - calm.mean(), s=size)
    power = np.abs(spectrum) ** 2
    # Flattened, so that the picture's own frequencies do not decide: what is left to repeat is the mark.
    flat = power / (_smooth(power) + np.float32(1e-6) * power.max() + np.float32(1e-20))
    lags = irfft2(np.minimum(flat, 8.0), s=size)
    found = np.roll(lags, (height - 1, width - 1), (0, 1))[: 2 * height - 1, : 2 * width - 1]
    found = found - box(found, 9)
    found[height - 1, width - 1] = 0
    # What lies near in a picture is alike anyway: peaks are measured against what else there is at their distance.
    y, x = np.ogrid[1 - height : height, 1 - width : width]
    ring = (np.hypot(y, x) / 6).astype(np.intp)
    mean_square = np.bincount(ring.ravel(), (found * found).ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    found = found / np.sqrt(np.maximum(mean_square, 1e-30))[ring]
    clipped: Array = np.clip(found, -6, 6).astype(np.float32)
    return clipped


def _smooth(power: Array) -> Array:
    from scipy.ndimage import uniform_filter

    found: Array = uniform_filter(power, 25, mode="wrap")
    return found


@functools.lru_cache(maxsize=4)
def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = int(math.log(SCALES[1] / SCALES[0]) / STEP_SCALE) + 1
    scales = SCALES[0] * np.exp(STEP_SCALE * np.arange(count))
    angles = np.arange(-ANGLE, ANGLE, STEP_ANGLE)
    return scales, angles


def candidates(correlation: Array, side: int, most: int) -> list[tuple[float, float]]:
    """The (scale, angle) at which tiles of ``side`` pixels show best, the best first; none nearly alike."""
    from scipy.ndimage import map_coordinates

    scales, angles = _grid()
    middle = (correlation.shape[0] - 1) / 2, (correlation.shape[1] - 1) / 2
    cos, sin = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    total = np.zeros((len(scales), len(angles)), np.float32)
    weight = np.zeros_like(total)
    for right, down in LATTICE:
        # Image rows run down, so a turn counter-clockwise takes (x, y) to (x cos + y sin, y cos - x sin).
        x = side * scales[:, None] * (right * cos + down * sin)
        y = side * scales[:, None] * (down * cos - right * sin)
        inside = (np.abs(x) < middle[1] - 2) & (np.abs(y) < middle[0] - 2)
        overlap = (1 - np.abs(x) / (middle[1] + 1)).clip(0) * (1 - np.abs(y) / (middle[0] + 1)).clip(0)
        value = map_coordinates(correlation, np.stack([y + middle[0], x + middle[1]]), order=1, mode="constant")
        total += np.where(inside, overlap * value, 0)
        weight += np.where(inside, overlap**2, 0)
    score = total / np.sqrt(np.maximum(weight, 1e-3))
    found = []
    for _ in range(most):
        row, column = divmod(int(np.argmax(score)), len(angles))
        if score[row, column] <= 0:
            break
        found.append((float(scales[row]), float(angles[column])))
        near = 4
        columns = np.arange(column - near, column + near + 1) % len(angles)
        score[max(row - near, 0) : row + near + 1, columns] = -1
    return found
