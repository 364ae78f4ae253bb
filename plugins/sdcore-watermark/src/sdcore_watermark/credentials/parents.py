"""The picture that a run starts from, as the ingredient of what it makes."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore.images import image_sha256, load_image
from sdcore.picture_source import data_uri_bytes, open_header, open_picture_file

from .signing import Parent

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "TIFF": "tiff", "AVIF": "avif"}
"""Formats whose own credentials c2pa reads; pictures of others become PNGs."""


def parent_of(given: Any, loaded: Image, title: str = "input") -> Parent:
    """The parent for a picture as the user gave it.

    A file (path, bytes, data URI) is taken as it is, so that its own credentials are kept; a picture in memory has
    none, and becomes a PNG. Its name is not told, which may say what the user wants to keep to themselves.

    Args:
        given: path, bytes, data URI, or a picture of Pillow.
        loaded: the picture that was read from it.
        title: of the ingredient, to which the format's suffix is added.

    Raises:
        RequestError: the file is another one than the one that was read.
    """
    data = _bytes(given)
    if data is not None:
        opened = open_header(io.BytesIO(data))
        kind = KEPT.get(str(opened.format)) if opened is not None else None
        if image_sha256(load_image(data)) != image_sha256(loaded):
            raise RequestError("the input picture changed while the run began: give it again")
        if kind is not None:
            return Parent(data, "image/jpeg" if kind == "jpg" else f"image/{kind}", f"{title}.{kind}")
    out = io.BytesIO()
    plain = loaded.copy()
    plain.info = {}
    plain.save(out, "PNG")
    return Parent(out.getvalue(), "image/png", f"{title}.png")


def small(image: Image) -> bytes:
    """A copy of at most 160 pixels a side, as the bytes of a JPEG."""
    from sdcore.verifying.verification import small_jpeg

    return small_jpeg(image, 160)


def _bytes(given: Any) -> bytes | None:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str) and given[:5].lower() == "data:":
        return data_uri_bytes(given, "image")
    if isinstance(given, str | os.PathLike):
        with open_picture_file(os.fspath(given), "image") as stream:
            return stream.read()
    return None
