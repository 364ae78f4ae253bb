"""Where the bytes of a picture come from, and which formats are tried on them.

The bytes are untrusted: only plain raster formats are tried, nothing that starts another program.
"""

from __future__ import annotations

import base64
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from .errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")

#: What Pillow raises, by experience, on a truncated or damaged file.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def open_header(stream: BinaryIO, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile | None:
    """Open a picture without decoding it; None if it is of none of the formats.

    ``PIL.Image.open`` would warn, or raise, at a pixel limit of its own that belongs to the whole process:
    here the caller applies a limit of its own to the size in the header. Raises what Pillow raises on a
    damaged header.
    """
    Image.init()
    damage: Exception | None = None
    prefix = stream.read(16)
    for name in formats if len(prefix) >= 8 else ():
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and accept(prefix) is not True):
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            damage = error
    if damage is not None:
        raise damage
    return None


def open_picture_file(source: str | Path, name: str) -> BinaryIO:
    """Open a file of the user's for reading; ImageError if it is missing, no file, or an address."""
    shown = shortened(str(source))
    if str(source).lower().startswith(("http://", "https://")):
        raise ImageError(f"{name}: {shown} is an address, and sdcore fetches none: download it, give the file")
    try:
        path = Path(source)
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(f"{name}: {shown} is not a file: give the path of a picture file")
        return path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no file {shown}: check the path") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot open {shown}: {error}"[:400]) from error


def data_uri_bytes(uri: str, name: str) -> bytes:
    """The bytes in a ``data:...;base64,`` URI; ImageError if it is no such URI."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError(f"{name}: {shortened(uri)} is no base64 data URI: it must begin data:image/png;base64,")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise ImageError(f"{name}: the data URI is not valid base64 ({error}): was it cut?") from error


def shortened(text: str) -> str:
    """A path or text of the user's for an error message, however long it is."""
    return repr(text) if len(text) <= 200 else f"{text[:80]!r}... ({len(text)} characters)"
