"""Reading a mask: which files and pictures are masks, and which only look like one."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from sdcore import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L", "I", "F")
"""Modes that are grey; modes of 16 bits ("I;16" and its relatives) too."""


def mask_option(value: Any) -> Any:
    """The value of an option that takes a mask: a path stays a path, bytes and data URIs become a picture.

    A picture in memory is kept as grey RGB, which is what a record's hash of it is made from.

    Raises:
        ValueError: it is no picture, or has colours or transparency.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str) and value[:5].lower() != "data:":
        if not value:
            raise ValueError("the path is empty; give a path, a PIL picture or bytes")
        return value
    try:
        return read_mask(value).convert("RGB")
    except ImageError as error:
        raise ValueError(str(error)) from None


def read_mask(source: Any, size: tuple[int, int] | None = None) -> Image:
    """Read a mask as a picture of mode "L".

    Args:
        source: a path, the bytes of a file, a data URI or a PIL picture; grey of 1, 8 or 16 bits, or grey RGB.
        size: (width, height) that it must have; checked before it is decoded where that can be.

    Raises:
        ImageError: it cannot be read, is coloured or transparent, or of another size.
    """
    from sdcore.images import load_image

    mode, transparent = _mode(source)
    if transparent:
        raise ImageError(
            f"mask: it has transparency (mode {mode!r}), which could mean either; save it as grey without alpha: white "
            "is redrawn"
        )
    if mode in ("P", "PA"):
        raise ImageError("mask: its colours are a palette, whose order means nothing; save it as grey (mode 'L')")
    if mode not in (*GREY, "RGB") and not mode.startswith("I;"):
        raise ImageError(f"mask: mode {mode!r} is not grey; save it as grey (mode 'L')")
    picture = load_image(source, name="mask")
    red, green, blue = picture.split()
    if red.tobytes() != green.tobytes() or red.tobytes() != blue.tobytes():
        raise ImageError("mask: it has colours; a mask is grey: white is redrawn, black is kept")
    if size is not None and red.size != size:
        raise ImageError(
            f"mask: it is {red.width}x{red.height}, the picture is {size[0]}x{size[1]}; make it as large as the picture"
        )
    return red


def _mode(source: Any) -> tuple[str, bool]:
    """Mode of a picture, and whether it has transparency; from its header alone. ("RGB", False) where unreadable."""
    from PIL import Image
    from PIL.Image import Image as Picture

    from sdcore.images import FORMATS

    if isinstance(source, Picture):
        return source.mode, source.has_transparency_data
    if isinstance(source, str) and source[:5].lower() == "data:":
        from sdcore.picture_source import data_uri_bytes

        source = data_uri_bytes(source, "mask")
    if not isinstance(source, bytes | str | os.PathLike):
        kind = type(source).__name__
        raise ImageError(f"mask: a {kind} is no mask; give a path, a PIL picture or the bytes of a file")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as header:
            return header.mode, header.has_transparency_data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "RGB", False  # load_image says better what is wrong with it
