"""Rotated squares of a picture: cutting them out, and bringing points in them back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from sdcore_controlnet.preprocess.arrays import Pixels, Plane, resized

Points: TypeAlias = NDArray[np.float64]
"""(n, 2) x and y in pixels, from the corner of the picture: the first pixel's centre is at 0.5."""


@dataclass(frozen=True)
class Region:
    """A square in a picture.

    Attributes:
        x: of its centre, in pixels.
        y: of its centre, in pixels.
        size: length of a side, in pixels.
        angle: by which it is turned clockwise as seen on the screen, in radians.
    """

    x: float
    y: float
    size: float
    angle: float

    def project(self, points: Points) -> Points:
        """Points (n, 2) of the square, where 0 to 1 is its width and height, as points of the picture."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        local = (np.asarray(points, np.float64) - 0.5) * self.size
        return np.stack(
            [self.x + local[:, 0] * cos - local[:, 1] * sin, self.y + local[:, 0] * sin + local[:, 1] * cos], axis=1
        )

    def cut(self, pixels: Pixels, side: int, *, replicate: bool = True) -> Plane:
        """The square turned upright, (side, side, 3), values from 0 to 1.

        Args:
            pixels: (height, width, 3).
            side: in pixels, of the result.
            replicate: outside the picture, continue its border instead of black.
        """
        # Averaging first keeps a large picture from being sampled at single pixels.
        step = max(1.0, self.size / side / 2)
        height, width = pixels.shape[:2]
        small = resized(pixels, max(1, round(height / step)), max(1, round(width / step)))
        fx, fy = small.shape[1] / width, small.shape[0] / height
        per_pixel = self.size / side
        cos, sin = np.cos(self.angle) * per_pixel, np.sin(self.angle) * per_pixel
        middle = 0.5 * side - 0.5
        to_picture = np.array(
            [
                [fx * cos, -fx * sin, fx * (self.x - middle * (cos - sin)) - 0.5],
                [fy * sin, fy * cos, fy * (self.y - middle * (sin + cos)) - 0.5],
            ]
        )
        border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(small.astype(np.float32), to_picture, (side, side), flags=flags, borderMode=border)
        return np.asarray(cut, np.float32) / np.float32(255)

    def changed(self, scale: float, shift: float = 0.0) -> Region:
        """Moved down by ``shift`` of its size, in its own direction of down, then ``scale`` times as large."""
        down = self.size * shift
        return Region(
            self.x - down * float(np.sin(self.angle)),
            self.y + down * float(np.cos(self.angle)),
            self.size * scale,
            self.angle,
        )


def letterbox(height: int, width: int) -> Region:
    """The square around a whole picture."""
    return Region(width / 2, height / 2, float(max(height, width)), 0.0)


def angle_to(start: Points, end: Points, target: float) -> float:
    """By what a region is turned so that the way from one point to another has the direction ``target`` in it.

    Args:
        start: (2,).
        end: (2,).
        target: in degrees, counted against the clock from the right: 90 is up.

    Returns:
        Radians, -pi to pi.
    """
    along = end - start
    angle = np.radians(target) - np.arctan2(-along[1], along[0])
    return float(angle - 2 * np.pi * np.floor((angle + np.pi) / (2 * np.pi)))


def aligned(centre: Points, scale: Points, target: float) -> Region:
    """The square around ``centre`` (2,) that reaches as far as ``scale`` (2,), which lies in direction ``target``."""
    return Region(
        float(centre[0]), float(centre[1]), 2 * float(np.hypot(*(scale - centre))), angle_to(centre, scale, target)
    )


def around(points: Points, angle: float) -> Region:
    """The square, turned by ``angle``, around the middle of an upright box of ``points``, of its longer side."""
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return Region(float(x), float(y), float((high - low).max()), angle)
