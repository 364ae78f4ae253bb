"""Canny edges (Canny 1986), as ControlNet's training pictures were made: OpenCV on the three channels."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, at_resolution
from .options import Canny


def canny_edges(pixels: Pixels, low: float, high: float, aperture: int = 3) -> Pixels:
    """White edges one pixel wide on black, (height, width).

    Args:
        pixels: (height, width, 3) or (height, width).
        low: gradients (sum of absolute derivatives) below are no edges.
        high: gradients above are edges; those between are if they are connected to one.
        aperture: 3, 5 or 7.
    """
    return np.asarray(cv2.Canny(pixels, low, high, apertureSize=aperture), dtype=np.uint8)


def run(image: Image.Image, options: Canny) -> Image.Image:
    """The preprocessor ``canny``."""
    return at_resolution(
        image,
        options.resolution,
        lambda small: canny_edges(small, options.low, options.high, options.aperture),
        binary=True,
    )
