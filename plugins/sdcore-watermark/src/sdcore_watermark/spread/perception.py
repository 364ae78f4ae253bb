"""What an eye sees of a mark, and what a detector sees of a picture: luma, masks, whitening, PSNR, SSIM.

Pure arithmetic on arrays of float32. Pictures are (height, width, 3) or, as luma, (height, width), from 0 to 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in luma (ITU-R BT.601, as in JPEG)."""

DETAIL = 7
NEIGHBOURHOOD = 9
FLOOR = 1.5
"""Pixels of the window that is subtracted, of the window in which activity is measured, and the activity of a flat
part: below about 1.5 grey levels there is only rounding."""


def luma(pixels: NDArray[np.generic]) -> Array:
    """Luma (height, width) of RGB pixels (height, width, 3)."""
    found: Array = pixels.astype(np.float32) @ LUMA
    return found


def box(values: Array, size: int) -> Array:
    """Mean over a square window, the border mirrored."""
    from scipy.ndimage import uniform_filter

    found: Array = uniform_filter(values, size, mode="reflect")
    return found


def detail(values: Array) -> Array:
    """What is left of luma without its local mean."""
    found: Array = values - box(values, DETAIL)
    return found


def activity(details: Array) -> Array:
    """Local standard deviation of details, in grey levels."""
    found: Array = np.sqrt(np.maximum(box(details * details, NEIGHBOURHOOD), 0.0))
    return found


def whiten(values: Array) -> Array:
    """Details of luma divided by their local activity: busy and quiet parts weigh about the same."""
    details = detail(values)
    found: Array = details / (activity(details) + np.float32(FLOOR))
    return found


def mask(busy: Array, exponent: float = 0.6) -> Array:
    """How strong a mark may be at each place, mean square 1, from :func:`activity`.

    Texture hides noise (contrast masking, Legge and Foley 1980): visibility falls with about the 0.6th power of the
    activity. The activity is smoothed, so that no flat part beside an edge is marked like the edge.
    """
    smooth = np.minimum(box(busy, NEIGHBOURHOOD), busy * 1.5 + 1.0)
    found = (smooth + np.float32(1.0)) ** np.float32(exponent)
    scaled: Array = found / np.sqrt(np.mean(found * found))
    return scaled


def psnr(before: NDArray[np.generic], after: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in decibels of two pictures from 0 to 255; infinite if they are the same."""
    difference = before.astype(np.float32) - after.astype(np.float32)
    error = float(np.mean(difference * difference, dtype=np.float64))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(before: Array, after: Array, size: int = 7) -> float:
    """Mean structural similarity of two luma planes (Wang et al. 2004), with uniform windows of ``size`` pixels.

    The variant that scikit-image computes by default: sample variances, K1 0.01, K2 0.03, range 255.
    """
    edge = size // 2
    one, two = box(before, size), box(after, size)
    sample = np.float32(size * size / (size * size - 1))
    var_one = (box(before * before, size) - one * one) * sample
    var_two = (box(after * after, size) - two * two) * sample
    both = (box(before * after, size) - one * two) * sample
    c1, c2 = np.float32((0.01 * 255) ** 2), np.float32((0.03 * 255) ** 2)
    found = ((2 * one * two + c1) * (2 * both + c2)) / ((one * one + two * two + c1) * (var_one + var_two + c2))
    return float(np.mean(found[edge:-edge, edge:-edge], dtype=np.float64))
