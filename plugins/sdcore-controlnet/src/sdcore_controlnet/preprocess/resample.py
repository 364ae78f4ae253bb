"""Fewer details: tile (smaller and larger again), blur, a grid of mean colours."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, picture_of, pixels_of
from .options import Blur, Colour, Tile


def small_and_back(pixels: Pixels, factor: float) -> Pixels:
    """The means of areas ``factor`` pixels wide, enlarged to the size of before (cubic)."""
    height, width = pixels.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """A Gaussian blur."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.uint8)


def colour_grid(pixels: Pixels, cells: int) -> Pixels:
    """Nearly square cells, each of its mean colour: ``cells`` along the short side, if it has so many pixels."""
    height, width = pixels.shape[:2]
    side = min(height, width) / min(cells, height, width)
    size = (max(1, round(width / side)), max(1, round(height / side)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def run_tile(image: Image.Image, options: Tile) -> Image.Image:
    """The preprocessor ``tile``."""
    return picture_of(small_and_back(pixels_of(image), options.factor))


def run_blur(image: Image.Image, options: Blur) -> Image.Image:
    """The preprocessor ``blur``."""
    return picture_of(blurred(pixels_of(image), options.sigma))


def run_colour(image: Image.Image, options: Colour) -> Image.Image:
    """The preprocessor ``colour``."""
    return picture_of(colour_grid(pixels_of(image), options.cells))
