"""Between pictures and arrays, and between a picture's size and the size at which a preprocessor works."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
"""(height, width, 3) RGB, or (height, width) grey, 0 to 255."""

Plane: TypeAlias = NDArray[np.float32]
"""(height, width), or (height, width, channels)."""


def pixels_of(image: Image.Image) -> Pixels:
    """(height, width, 3) of a picture of any mode."""
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def picture_of(pixels: Pixels) -> Image.Image:
    """An RGB picture of (height, width) or (height, width, 3)."""
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def grey_of(pixels: Pixels) -> Pixels:
    """Luma (ITU-R BT.601) of RGB."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def to_8_bits(plane: NDArray[np.floating]) -> Pixels:
    """Values from 0 to 255, rounded and clipped."""
    return np.asarray(np.clip(np.rint(plane), 0, 255), np.uint8)


def factor_to(height: int, width: int, resolution: int | None) -> float:
    """By what a picture is made smaller so that its short side is ``resolution``; 1 if that would enlarge it."""
    return 1.0 if resolution is None else min(1.0, resolution / min(height, width))


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Another size: the mean of areas when smaller, linear when larger."""
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = height * width < pixels.shape[0] * pixels.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), dtype=np.uint8)


def at_resolution(
    image: Image.Image, resolution: int | None, work: Callable[[Pixels], Pixels], *, binary: bool = False
) -> Image.Image:
    """Carry out ``work`` on a smaller copy, and bring its result to the size of the picture.

    Args:
        image: any picture.
        resolution: short side of the copy, or None.
        work: from (height, width, 3) to the same height and width, RGB or grey.
        binary: the result is black and white, and stays so.
    """
    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    factor = factor_to(height, width, resolution)
    small = resized(pixels, max(1, round(height * factor)), max(1, round(width * factor)))
    result = resized(work(small), height, width)
    if binary and result.shape[:2] != small.shape[:2]:
        result = np.where(result > 127, 255, 0).astype(np.uint8)
    return picture_of(result)
