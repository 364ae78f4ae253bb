"""Line art without a network: white lines on black."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, at_resolution, grey_of, to_8_bits
from .options import LineArt, LineArtAnime


def darker_than_around(pixels: Pixels, sigma: float, noise: float, strength: float) -> Pixels:
    """How much darker than its surroundings each pixel is, in its brightest channel: (height, width).

    This is ControlNet's "lineart standard": brought to a common strength by the median of what is a line at all.

    Args:
        pixels: (height, width, 3).
        sigma: of the Gaussian that stands for the surroundings.
        noise: smaller differences are not counted as lines.
        strength: factor of the result.
    """
    values = pixels.astype(np.float32)
    around = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    difference = np.clip((around - values).min(2), 0, 255)
    lines = difference[difference > noise]
    usual = max(16.0, float(np.median(lines)) if lines.size else 0.0)
    return to_8_bits(np.maximum(difference - noise / 4, 0) / usual * 127 * strength)


def extended_difference(grey: Pixels, sigma: float, sharpness: float, contrast: float) -> Pixels:
    """Inked lines, white on black, (height, width).

    The extended difference of Gaussians of Winnemoeller, Kyprianidis and Olsen (2012): the difference of two
    blurs, cut softly at a threshold by a hyperbolic tangent.
    """
    values = grey.astype(np.float32) / 255
    narrow = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    wide = cv2.GaussianBlur(values, (0, 0), 1.6 * sigma, borderType=cv2.BORDER_REPLICATE)
    difference = narrow - sharpness * wide
    paper = (1 - sharpness) * wide
    below = np.minimum(difference - 0.45 * paper, 0)
    return to_8_bits(-255 * np.tanh(contrast * 4 * below))


def flattened(pixels: Pixels, passes: int) -> Pixels:
    """Areas evened out, edges kept: a bilateral filter (Tomasi and Manduchi 1998), ``passes`` times."""
    flat = pixels
    for _ in range(passes):
        flat = np.asarray(cv2.bilateralFilter(flat, 7, 25, 5), dtype=np.uint8)
    return flat


def run(image: Image.Image, options: LineArt) -> Image.Image:
    """The preprocessor ``line-art``."""
    return at_resolution(
        image,
        options.resolution,
        lambda small: darker_than_around(small, options.sigma, options.noise, options.strength),
    )


def run_anime(image: Image.Image, options: LineArtAnime) -> Image.Image:
    """The preprocessor ``line-art-anime``."""

    def work(small: Pixels) -> Pixels:
        grey = grey_of(flattened(small, options.smooth))
        return extended_difference(grey, options.sigma, options.sharpness, options.contrast)

    return at_resolution(image, options.resolution, work)
