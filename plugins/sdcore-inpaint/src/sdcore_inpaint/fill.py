"""Filling a hole in a picture from its surroundings. Plain functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Array = Any
"""numpy.ndarray; numpy is imported where it is used."""


def fill_picture(picture: Image, hole: Image, how: str, ring: int = 16) -> Image:
    """An RGB picture with its hole filled; what is outside the hole stays bit for bit.

    Args:
        picture: mode "RGB".
        hole: mode "L", same size; filled wherever it is not black.
        how: "mean" (the mean colour of a ring around the hole) or "edge" (colours spread inwards).
        ring: width of that ring in pixels.
    """
    import numpy as np
    from PIL import Image

    pixels = np.asarray(picture).astype(np.float64)
    inside = np.asarray(hole) > 0
    if inside.all() or not inside.any():
        return picture
    filled = mean_fill(pixels, inside, ring) if how == "mean" else pull_push(pixels, inside)
    kept = np.where(inside[..., None], filled.round().clip(0, 255), pixels)
    return Image.fromarray(kept.astype(np.uint8))


def mean_fill(pixels: Array, inside: Array, ring: int) -> Array:
    """The mean colour of a ring around the hole, everywhere: (height, width, 3) from the same and a bool mask."""
    import numpy as np
    from scipy import ndimage

    near = ndimage.binary_dilation(inside, structure=np.ones((3, 3)), iterations=max(1, ring)) & ~inside
    return np.broadcast_to(pixels[near].mean(axis=0), pixels.shape)


def pull_push(pixels: Array, inside: Array) -> Array:
    """Colours of the known pixels spread smoothly into the hole (Gortler et al., The Lumigraph, 1996).

    Pull: halve the picture again and again, averaging what is known, until nothing is missing. Push: on the way
    back, fill what is missing at each size from the size below.

    Args:
        pixels: (height, width, channels), float.
        inside: (height, width), True where nothing is known; not everywhere.

    Returns:
        The same shape; known pixels as they were.
    """
    import numpy as np

    weights = (~inside).astype(np.float64)[..., None]
    levels = [(pixels * weights, weights)]
    while not (levels[-1][1] > 0).all():
        colours, weight = levels[-1]
        if min(weight.shape[:2]) == 1 and max(weight.shape[:2]) == 1:
            break
        colours, weight = _halved(colours), _halved(weight)
        known = np.maximum(weight, 1e-12)
        full = np.minimum(weight, 1.0)
        levels.append((colours / known * full, full))
    colours, weight = levels.pop()
    result = colours / np.maximum(weight, 1e-12)
    while levels:
        colours, weight = levels.pop()
        result = colours + (1 - weight) * _doubled(result, *colours.shape[:2])
    return result


def _halved(values: Array) -> Array:
    """Sums over blocks of 2x2; an odd side is filled up with nothing."""
    import numpy as np

    height, width = values.shape[0] % 2, values.shape[1] % 2
    values = np.pad(values, ((0, height), (0, width), (0, 0)))
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def _doubled(values: Array, height: int, width: int) -> Array:
    """Bilinear, twice the size, cut to (height, width)."""
    import numpy as np

    for axis, size in ((0, height), (1, width)):
        places = (np.arange(size) + 0.5) / 2 - 0.5
        low = np.floor(places).astype(int)
        share = places - low
        count = values.shape[axis]
        shape = [1, 1, 1]
        shape[axis] = size
        share = share.reshape(shape)
        first, second = np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1)
        values = np.take(values, first, axis) * (1 - share) + np.take(values, second, axis) * share
    return values
