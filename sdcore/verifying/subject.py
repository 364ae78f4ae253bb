"""The picture that is verified: untrusted bytes, read once, within limits."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.errors import ImageError
from sdcore.images import load_image
from sdcore.picture_source import open_header, open_picture_file

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class Subject:
    """What verifiers are given.

    Attributes:
        name: the file's name, or "the given bytes".
        data: the bytes of the file.
        format: as Pillow calls it, in small letters: "png", "jpeg", "webp", ...
        image: the decoded picture, RGB; do not change it in place.
    """

    name: str
    data: bytes = field(repr=False)
    format: str
    image: Image = field(repr=False)

    @property
    def mime_type(self) -> str:
        """Such as ``"image/png"``."""
        return f"image/{self.format}"

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def read_subject(
    source: str | os.PathLike[str] | bytes, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Subject:
    """Read a picture that is to be verified, all of it.

    Raises:
        ImageError: the file is missing, truncated, damaged, not a picture, or beyond a limit.
    """
    if isinstance(source, bytes):
        name, data = "the given bytes", source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = path.name
        with open_picture_file(path, "picture") as stream:
            data = stream.read(max_bytes + 1)
    else:
        raise ImageError(f"picture: a {type(source).__name__} is no file: give a path or the bytes of a file")
    if len(data) > max_bytes:
        raise ImageError(f"picture: {name} has more than {max_bytes:,} bytes, which is the most that is read")
    image = load_image(data, max_pixels=max_pixels, name="picture" if source is data else name)
    return Subject(name, data, _format(data), image)


def _format(data: bytes) -> str:
    opened = open_header(io.BytesIO(data))  # it was decoded before
    return "" if opened is None or opened.format is None else opened.format.lower()
