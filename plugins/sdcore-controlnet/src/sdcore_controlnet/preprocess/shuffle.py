"""Shuffle: the colours of a picture, its shapes washed about by a smooth random flow."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, Plane, picture_of, pixels_of
from .options import Shuffle


def smooth_noise(height: int, width: int, cell: float, generator: np.random.Generator) -> Plane:
    """Smooth noise from 0 to 1, (height, width), that changes over about ``cell`` pixels."""
    rows, columns = (max(2, round(side / cell) + 2) for side in (height, width))
    coarse = generator.uniform(size=(rows, columns)).astype(np.float32)
    fine = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    spread = float(fine.max() - fine.min())
    return (fine - fine.min()) / spread if spread else np.zeros_like(fine)


def shuffled(pixels: Pixels, seed: int, size: float) -> Pixels:
    """Every pixel taken from a place that smooth noise names, as in ControlNet's content shuffle."""
    height, width = pixels.shape[:2]
    generator = np.random.default_rng(seed)
    cell = max(1.0, size * min(height, width))
    x = smooth_noise(height, width, cell, generator) * (width - 1)
    y = smooth_noise(height, width, cell, generator) * (height - 1)
    return np.asarray(cv2.remap(pixels, x, y, cv2.INTER_LINEAR), dtype=np.uint8)


def run(image: Image.Image, options: Shuffle) -> Image.Image:
    """The preprocessor ``shuffle``."""
    return picture_of(shuffled(pixels_of(image), options.seed, options.size))
