"""Soft edges without a network: what HED draws, from colour gradients at several scales.

At each scale the gradient is the largest eigenvalue of the colour structure tensor (Di Zenzo 1986), on Lab.
Texture is held down as in Grigorescu, Petkov and Westenberg, "Contour and boundary detection improved by
surround suppression of texture edges" (2004): from the gradient, its mean in a ring around the pixel is taken.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, Plane, at_resolution, to_8_bits
from .options import SoftEdge

SCALES = (1.0, 2.0, 4.0)
"""Standard deviations of the Gaussians, in pixels of a picture whose short side is 512."""

FULL = (12.0, 60.0)
"""The strongest edges of a picture are drawn white, if they are steps of at least the first and at most the second
size, in Lab units (lightness is 0 to 100): the grain of an empty wall does not become edges."""


def colour_gradient(lab: Plane, sigma: float) -> Plane:
    """Strength of edges at one scale, (height, width): about the height of a step, at any ``sigma``.

    Args:
        lab: (height, width, 3).
        sigma: of the Gaussian before derivatives are taken, in pixels.
    """
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    dx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
    xx, yy, xy = (dx * dx).sum(2), (dy * dy).sum(2), (dx * dy).sum(2)
    largest = 0.5 * (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy))
    # A step of height H has the slope H / (sigma sqrt(2 pi)) in its middle.
    return np.asarray(np.sqrt(np.maximum(largest, 0)) * (sigma * np.sqrt(2 * np.pi)), dtype=np.float32)


def surround(gradient: Plane, sigma: float) -> Plane:
    """Mean gradient in the ring around each pixel that a difference of Gaussians (4 sigma, sigma) makes."""
    radius = int(np.ceil(12 * sigma))
    ring = _kernel(4 * sigma, radius) - _kernel(sigma, radius)
    ring = np.maximum(ring, 0)
    return np.asarray(
        cv2.filter2D(gradient, cv2.CV_32F, ring / ring.sum(), borderType=cv2.BORDER_REFLECT), dtype=np.float32
    )


def soft_edges(pixels: Pixels, strength: float = 1.0, detail: float = 1.0, suppression: float = 1.0) -> Plane:
    """Soft edges from 0 to 1, (height, width).

    Args:
        pixels: (height, width, 3), RGB.
        strength: factor before the range is cut.
        detail: the scales are divided by it.
        suppression: how many times the gradient of the surround is taken off.
    """
    lab = np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)
    unit = min(pixels.shape[:2]) / 512 / detail
    total = np.zeros(pixels.shape[:2], np.float32)
    for scale in SCALES:
        sigma = max(0.6, scale * unit)
        gradient = colour_gradient(lab, sigma)
        if suppression:
            gradient = np.maximum(gradient - suppression * surround(gradient, sigma), 0)
        total += gradient / len(SCALES)
    full = float(np.clip(np.percentile(total, 99), *FULL))
    return np.asarray(np.clip(total * (strength / full), 0, 1) ** 0.7, dtype=np.float32)


def in_steps(plane: Plane, steps: int = 2) -> Plane:
    """Values from 0 to 1 in ``steps`` + 1 levels, as ControlNet's "safe" edges are."""
    return np.asarray(np.floor(np.minimum(plane, 0.999999) * (steps + 1)) / steps, dtype=np.float32)


def run(image: Image.Image, options: SoftEdge) -> Image.Image:
    """The preprocessor ``soft-edge``."""

    def work(small: Pixels) -> Pixels:
        edges = soft_edges(small, options.strength, options.detail, options.suppression)
        return to_8_bits(255 * (in_steps(edges) if options.safe else edges))

    return at_resolution(image, options.resolution, work)


def _kernel(sigma: float, radius: int) -> Plane:
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    square = np.outer(line, line)
    return np.asarray(square / square.sum(), dtype=np.float32)
