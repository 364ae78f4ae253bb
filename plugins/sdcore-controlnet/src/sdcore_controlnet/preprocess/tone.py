"""Tones: unchanged, inverted, black and white."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, grey_of, picture_of, pixels_of
from .options import Threshold


def black_and_white(grey: Pixels, level: int | None = None) -> Pixels:
    """White where ``grey`` (height, width) is above ``level``; None: the level that parts it best (Otsu 1979)."""
    if level is None:
        level = int(cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0])
    return np.where(grey > level, 255, 0).astype(np.uint8)


def run_passthrough(image: Image.Image, options: None) -> Image.Image:
    """The preprocessor ``passthrough``."""
    return image.convert("RGB").copy()


def run_invert(image: Image.Image, options: None) -> Image.Image:
    """The preprocessor ``invert``."""
    return picture_of(255 - pixels_of(image))


def run_threshold(image: Image.Image, options: Threshold) -> Image.Image:
    """The preprocessor ``threshold``."""
    return picture_of(black_and_white(grey_of(pixels_of(image)), options.level))
