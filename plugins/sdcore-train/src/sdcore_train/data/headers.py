"""The size of a picture from the first bytes of its file, without decoding it.

PNG and JPEG are read here, because a data set may have a hundred thousand of them; Pillow reads the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO

#: Bytes of a file that are enough for most headers, and for almost all.
HEAD = 4096
MORE = 1 << 18

#: Larger pictures are refused: they would not fit into memory.
MAX_PIXELS = 256_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture_size(head: bytes, read: Callable[[int], bytes]) -> tuple[int, int]:
    """(height, width) after turning as EXIF says.

    Args:
        head: the first :data:`HEAD` bytes of the file, or all.
        read: reads more, from the first byte on: so many bytes, or all of them for -1. Called if the first ones do
            not tell.

    Raises:
        OSError: it is not a picture, or one that is too small or too large to be read.
    """
    from sdcore.images import MIN_SIDE

    size = _png_size(head) or _jpeg_size(head) or _size_by_pillow(head, read)
    if size[0] * size[1] > MAX_PIXELS:
        raise OSError(f"it has {size[0]}x{size[1]} pixels; {MAX_PIXELS:,} are the most that are read")
    if min(size) < MIN_SIDE:
        raise OSError(f"it has {size[0]}x{size[1]} pixels; each side needs at least {MIN_SIDE}")
    return size


def _png_size(head: bytes) -> tuple[int, int] | None:
    if head[:8] != _PNG or head[12:16] != b"IHDR" or len(head) < 24:
        return None
    width, height = struct.unpack(">II", head[16:24])
    at = 33
    while at + 8 <= len(head):
        length, name = struct.unpack(">I4s", head[at : at + 8])
        if name == b"IDAT":
            return height, width
        if name == b"eXIf":
            return None
        at += 12 + length
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = struct.unpack(">BH", head[at + 1 : at + 4])
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return height, width
        if marker == 0xE1 or not 0xC0 <= marker <= 0xFE:  # EXIF may turn it; and markers without a length
            return None
        at += 2 + length
    return None


def _size_by_pillow(head: bytes, read: Callable[[int], bytes]) -> tuple[int, int]:
    if len(head) < HEAD:
        return _opened_size(head)
    try:
        return _opened_size(read(MORE))
    except OSError:
        return _opened_size(read(-1))


def _opened_size(data: bytes) -> tuple[int, int]:
    from sdcore.picture_source import BROKEN, FORMATS, open_header

    try:
        image = open_header(BytesIO(data))
        if image is None:
            raise OSError(f"it is not a picture that can be read (known: {', '.join(FORMATS)})")
        turned = image.getexif().get(_ORIENTATION) in _TURNED
    except BROKEN as error:
        raise OSError(str(error) or type(error).__name__) from error
    width, height = image.size
    return (width, height) if turned else (height, width)
