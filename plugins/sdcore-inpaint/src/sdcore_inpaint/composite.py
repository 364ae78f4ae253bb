"""Putting the kept pixels back, and matching colours at the seam. Plain functions of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

FADE = 4
"""In grey masks the darkest quarter fades the new picture into the old; from there on the new one covers it."""
RING = 16
"""Pixels around the mask in which colours are compared."""


def cover(mask: Image, hard: bool, feather: float) -> Image:
    """How much of the new picture is seen where: mode "L", 0 where the input's pixels stay bit for bit.

    Args:
        mask: mode "L", white is redrawn.
        hard: the mask is binary: new from half grey on. Else its grey was already blended while drawing, and only
            the darkest of it fades.
        feather: pixels outside the mask over which the new picture fades out, in a straight ramp.
    """
    import numpy as np
    from PIL import Image
    from scipy import ndimage

    values = np.asarray(mask).astype(np.float64)
    seen = np.where(values >= 128, 255.0, 0.0) if hard else np.minimum(values * FADE, 255.0)
    if feather and (seen > 0).any():
        full = seen >= 255 if (seen >= 255).any() else seen > 0
        distance = ndimage.distance_transform_edt(~full)
        seen = np.maximum(seen, 255.0 * (1 - distance / (feather + 1)).clip(0, 1))
    return Image.fromarray(seen.round().astype(np.uint8))


def lay_over(old: Image, new: Image, seen: Image) -> Image:
    """``new`` over ``old`` as far as ``seen`` (mode "L") says; at 0 and 255 the pixels of one of them exactly."""
    from PIL import Image

    return Image.composite(new, old, seen)


def match_colours(new: Image, old: Image, mask: Image, ring: int = RING) -> Image:
    """Give a new picture the mean and deviation of the old one, channel by channel, compared around a mask.

    Around the mask both show the same scene, so what differs there is the drift of the codec and the model, and
    not the new content. The change is linear in the pixel and the same everywhere, which is robust: unlike
    Poisson blending (Perez et al., 2003) it cannot pull the colour of a neighbour into the new part.

    Args:
        new, old: mode "RGB", same size.
        mask: mode "L", what was redrawn.
        ring: how far around the mask, in pixels.

    Returns:
        ``new`` unchanged if nothing lies around the mask.
    """
    import numpy as np
    from PIL import Image
    from scipy import ndimage

    inside = np.asarray(mask) > 0
    if not inside.any():
        return new
    distance = ndimage.distance_transform_edt(~inside)
    near = (distance > 0) & (distance <= ring)
    if near.sum() < 16:
        return new
    drawn, wanted = _numbers(new), _numbers(old)
    means, targets = drawn[near].mean(axis=0), wanted[near].mean(axis=0)
    # Where a ring is flat its deviation says nothing; and a gain far from one would be content, not drift.
    gain = ((wanted[near].std(axis=0) + 4) / (drawn[near].std(axis=0) + 4)).clip(0.8, 1.25)
    matched = (drawn - means) * gain + targets
    return Image.fromarray(matched.round().clip(0, 255).astype(np.uint8))


def _numbers(picture: Image) -> Any:
    import numpy as np

    return np.asarray(picture).astype(np.float64)
