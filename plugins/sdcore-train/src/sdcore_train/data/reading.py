"""Reading pictures of a data set: what :class:`~sdcore_train.records.Record` calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .headers import MAX_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

#: Reads a file from its first byte on: so many bytes, or all of them for -1.
Payload = Callable[[int], bytes]


def read_rgb(payload: Payload, size: tuple[int, int] | None = None) -> Image:
    """A picture as RGB, turned as its EXIF data says, transparent parts on white.

    Args:
        payload: reads its file.
        size: (height, width) that it must have.

    Raises:
        OSError: it is missing, broken, or of another size.
    """
    from sdcore import ImageError
    from sdcore.images import load_image

    try:
        image = load_image(payload(-1), max_pixels=MAX_PIXELS, name="it")
    except ImageError as error:
        raise OSError(str(error).removeprefix("it: ")) from error
    if size is not None and (image.height, image.width) != size:
        raise OSError(f"it is {image.height}x{image.width} pixels, where {size[0]}x{size[1]} was said")
    return image


def read_grey(payload: Payload) -> Image:
    """A mask as "L"; raises as :func:`read_rgb`."""
    return read_rgb(payload).convert("L")
