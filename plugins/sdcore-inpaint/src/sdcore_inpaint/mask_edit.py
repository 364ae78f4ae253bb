"""Editing a mask: invert, grow, shrink, blur. Plain functions of grey pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def edit_mask(mask: Image, *, invert: bool = False, grow: int = 0, shrink: int = 0, blur: float = 0.0) -> Image:
    """Edit a mask in this order: invert, grow, shrink, blur.

    Args:
        mask: mode "L".
        invert: swap black and white.
        grow: pixels by which white spreads on every side (square, so corners stay corners).
        shrink: pixels by which it withdraws; beyond the picture's edge counts as white if the edge is.
        blur: radius of a Gaussian blur, in pixels.

    Returns:
        Mode "L", same size.
    """
    from PIL import Image, ImageFilter, ImageOps

    if invert:
        mask = ImageOps.invert(mask)
    if grow or shrink:
        import numpy as np
        from scipy import ndimage

        values = np.asarray(mask)
        if grow:
            values = ndimage.maximum_filter(values, size=2 * grow + 1, mode="nearest")
        if shrink:
            values = ndimage.minimum_filter(values, size=2 * shrink + 1, mode="nearest")
        mask = Image.fromarray(values)
    return mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask
