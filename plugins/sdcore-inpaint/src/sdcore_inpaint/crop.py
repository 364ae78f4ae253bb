"""Cutting the marked part out of a picture, and fitting it into the size at which it is drawn.

The arithmetic is that of diffusers' ``VaeImageProcessor`` (``get_crop_region`` and the resize modes "fill" and
"crop"), so that pictures come out alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""


def marked_box(mask: Image) -> Box | None:
    """The smallest box around all pixels that are not black; None if there are none."""
    return mask.getbbox()


def crop_region(marked: Box, size: tuple[int, int], working: tuple[int, int], padding: int) -> Box:
    """The part of a picture to draw: the marked box with padding, widened to the proportions of the drawing.

    Args:
        marked: box around what is marked.
        size: (width, height) of the picture; the region is kept inside, moved, or where it is too long, cut.
        working: (width, height) at which it will be drawn.
        padding: pixels on every side.
    """
    left, top, right, bottom = marked
    left, right = max(left - padding, 0), min(right + padding, size[0])
    top, bottom = max(top - padding, 0), min(bottom + padding, size[1])
    proportion = working[0] / working[1]
    if (right - left) / (bottom - top) > proportion:
        top, bottom = _widened(top, bottom, (right - left) / proportion, size[1])
    else:
        left, right = _widened(left, right, (bottom - top) * proportion, size[0])
    return left, top, right, bottom


def _widened(low: int, high: int, wanted: float, limit: int) -> tuple[int, int]:
    more = int(wanted - (high - low))
    low, high = low - more // 2, high + more - more // 2
    if high >= limit:
        low, high = low - (high - limit), limit
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def fit_inside(picture: Image, width: int, height: int) -> Image:
    """Scale (Lanczos) to fit into a size, in the middle; what stays empty beside it repeats the outermost pixels."""
    from PIL import Image
    from PIL.Image import Resampling

    wide_target, source = width / height, picture.width / picture.height
    across = width if wide_target < source else picture.width * height // picture.height
    down = height if wide_target >= source else picture.height * width // picture.width
    scaled = picture.resize((across, down), resample=Resampling.LANCZOS)
    if (across, down) == (width, height):
        return scaled
    result = Image.new(picture.mode, (width, height))
    left, top = width // 2 - across // 2, height // 2 - down // 2
    result.paste(scaled, (left, top))
    if top > 0:
        result.paste(scaled.resize((width, top), box=(0, 0, width, 0)), (0, 0))
        result.paste(scaled.resize((width, top), box=(0, down, width, down)), (0, top + down))
    if left > 0:
        result.paste(scaled.resize((left, height), box=(0, 0, 0, height)), (0, 0))
        result.paste(scaled.resize((left, height), box=(across, 0, across, height)), (left + across, 0))
    return result


def cut_middle(picture: Image, width: int, height: int) -> Image:
    """Scale (Lanczos) to cover a size, and cut its middle out: the way back from :func:`fit_inside`."""
    from PIL import Image
    from PIL.Image import Resampling

    wide_target, source = width / height, picture.width / picture.height
    across = width if wide_target > source else picture.width * height // picture.height
    down = height if wide_target <= source else picture.height * width // picture.width
    scaled = picture.resize((across, down), resample=Resampling.LANCZOS)
    result = Image.new(picture.mode, (width, height))
    result.paste(scaled, (width // 2 - across // 2, height // 2 - down // 2))
    return result
