"""Pictures as files: PNG, JPEG and WebP, with the record inside."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Literal, cast

from PIL import Image, PngImagePlugin

from .errors import OutputError, RecordError
from .parameters_text import parameters_text
from .picture_source import BROKEN, open_header
from .record import MAX_BYTES, Record

Format = Literal["png", "jpeg", "webp"]

SUFFIXES: dict[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
PNG_KEY = "sdcore"
EXIF_IFD, USER_COMMENT, MAKER_NOTE = 0x8769, 0x9286, 0x927C
MAKER_PREFIX = b"sdcore\0\1"
#: Pixels that reading a record may decode, to reach text that a tool moved behind the pixels of a PNG.
MAX_PIXELS = 64_000_000


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that a file name's suffix asks for.

    Raises:
        OutputError: the suffix is missing or none of those that are written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{Path(path).name!r} names no picture format: end it in one of {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def format_name(path: str | os.PathLike[str]) -> str:
    """The format that a file name asks for: one of :data:`SUFFIXES`, else its suffix, which a plugin may know.

    Raises:
        OutputError: there is no suffix.
    """
    suffix = Path(path).suffix.lower()
    return suffix[1:] if len(suffix) > 1 and suffix not in SUFFIXES else format_of(path)


def encode_image(
    image: Image.Image,
    fmt: Format,
    record: Record | None,
    *,
    quality: int = 95,
    lossless_webp: bool = False,
    compress_level: int = 6,
) -> bytes:
    """Encode a picture, with its record and the text that other tools read.

    * PNG: the record as JSON in an iTXt chunk ``sdcore``, the text in a chunk ``parameters`` (tEXt where it
      is Latin-1, else iTXt).
    * JPEG and WebP: in EXIF. The text is the UserComment (``UNICODE``, UTF-16 big-endian), the record the
      MakerNote (0x927C, which EXIF leaves to the maker, and which Pillow and piexif carry along):
      ``b"sdcore\\0\\1"``, then the JSON compressed with zlib.

    Nothing else is written: no colour profile or metadata that the picture came with.

    Args:
        image: mode ``"RGB"`` or ``"L"``; for PNG and WebP also ``"RGBA"``.
        fmt: ``"png"``, ``"jpeg"`` or ``"webp"``.
        record: the record, or None to write none.
        quality: 1 to 100, of JPEG and lossy WebP; JPEG keeps full colour resolution from 90.
        lossless_webp: keep every pixel of a WebP.
        compress_level: 0 (fast) to 9 (small), of PNG.

    Raises:
        OutputError: the format is not known or cannot hold the picture; the record exceeds the 64 KiB that a
            JPEG has room for, or the 4 MiB that are read again.
    """
    if fmt not in ("png", "jpeg", "webp"):
        raise OutputError(f"{fmt!r} is no format that is written: use 'png', 'jpeg' or 'webp', or a plugin that has it")
    if image.mode not in ("RGB", "L", "RGBA") or (image.mode == "RGBA" and fmt == "jpeg"):
        raise OutputError(f"{fmt} holds no picture of mode {image.mode!r}: convert it to 'RGB' first")
    plain = image.copy()
    # Pillow writes some of what it finds here, such as a colour profile.
    plain.info = {}
    text, json = ("", "") if record is None else (parameters_text(record, image.size), record.to_json())
    if len(json) > MAX_BYTES:
        raise OutputError(f"the record has {len(json):,} bytes and at most {MAX_BYTES:,} are read: shorten it")
    out = io.BytesIO()
    try:
        if fmt == "png":
            chunks = PngImagePlugin.PngInfo()
            if record is not None:
                chunks.add_text("parameters", text)
                chunks.add_itxt(PNG_KEY, json)
            plain.save(out, "PNG", pnginfo=chunks, compress_level=compress_level)
            return out.getvalue()
        exif = b"" if record is None else _exif(text, json)
        if fmt == "jpeg":
            if len(exif) > 65533:
                raise OutputError(f"the record needs {len(exif):,} bytes and a JPEG holds 65,533: save as PNG or WebP")
            sampling = "4:4:4" if quality >= 90 else "4:2:0"
            plain.save(out, "JPEG", exif=exif, quality=quality, subsampling=sampling)
        else:
            plain.save(out, "WEBP", exif=exif, quality=quality, lossless=lossless_webp, exact=lossless_webp)
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"{fmt} cannot hold this picture of {image.width}x{image.height}: {error}") from error
    return out.getvalue()


def read_record(source: str | os.PathLike[str] | bytes) -> Record:
    """Read the record out of a PNG, JPEG or WebP; ``source`` is a path or the file's bytes.

    The pixels are not decoded, so that the record of a picture cut short behind its head can still be read,
    and the picture made again. Nothing that the record names is opened.

    Raises:
        RecordError: no such file, not a picture, no record in it, or the record is malformed, too big, of a
            newer schema, or was changed.
    """
    if isinstance(source, bytes):
        return Record.from_json(_needed(io.BytesIO(source), "the given bytes"))
    path = Path(source)
    try:
        if not path.is_file():
            raise RecordError(f"there is no file {str(path)[:200]!r}: check the path")
        with path.open("rb") as stream:
            return Record.from_json(_needed(cast("io.BytesIO", stream), str(path)))
    except RecordError:
        raise
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {str(path)[:200]!r}: {error}"[:400]) from error


def find_record(data: bytes) -> Record | None:
    """The record in a picture file's bytes; None if there is none, or the file is no PNG, JPEG or WebP.

    Raises:
        RecordError: there is one, and it is malformed, too big, of a newer schema, or was changed.
    """
    if open_header(io.BytesIO(data), ("PNG", "JPEG", "WEBP")) is None:
        return None
    found = _find(io.BytesIO(data), "the picture")
    return None if found is None else Record.from_json(found)


def _needed(stream: io.BytesIO, what: str) -> str | bytes:
    found = _find(stream, what)
    if found is None:
        raise RecordError(
            f"{what} has no record of sdcore: it was made by something else, or a site or program that it "
            "went through removed it, as many do. Take the file as it was first saved"
        )
    return found


def _find(stream: io.BytesIO, what: str) -> str | bytes | None:
    try:
        image = open_header(stream, ("PNG", "JPEG", "WEBP"))
        if image is None:
            raise RecordError(f"{what} is no PNG, JPEG or WebP, or is cut off at its head: records are in those")
        return _from_png(image) if isinstance(image, PngImagePlugin.PngImageFile) else _from_exif(image)
    except RecordError:
        raise
    except BROKEN as error:
        raise RecordError(f"{what} is truncated or damaged, its record cannot be read: {error}") from error


def _from_png(image: PngImagePlugin.PngImageFile) -> str | None:
    if PNG_KEY not in image.info and image.width * image.height <= MAX_PIXELS:
        # Some programs write text behind the pixels when they save a PNG again.
        image.load()
    text = image.info.get(PNG_KEY)
    return str(text) if text is not None else None


def _from_exif(image: Image.Image) -> bytes | None:
    note = image.getexif().get_ifd(EXIF_IFD).get(MAKER_NOTE)
    if not isinstance(note, bytes) or not note.startswith(MAKER_PREFIX):
        return None
    # One byte more than is allowed is enough to be refused, however much it would expand to.
    return zlib.decompressobj().decompress(note[len(MAKER_PREFIX) :], MAX_BYTES + 1)


def _exif(text: str, json: str) -> bytes:
    # By hand: Pillow would write these fields as BYTE, where EXIF has UNDEFINED, and piexif, with which the
    # web UI reads pictures, then fails on them.
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    note = MAKER_PREFIX + zlib.compress(json.encode(), 9)
    fields = ((MAKER_NOTE, note), (USER_COMMENT, comment))
    # Offsets count from the TIFF header: 8 bytes, a directory of 1 entry (18 bytes), then one of 2 (30).
    exif = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, EXIF_IFD, 4, 1, 26, 0) + struct.pack(">H", len(fields))
    offset = 56
    for tag, value in fields:
        exif += struct.pack(">HHII", tag, 7, len(value), offset)
        offset += len(value) + len(value) % 2
    exif += bytes(4) + b"".join(value + bytes(len(value) % 2) for _, value in fields)
    return b"Exif\0\0" + exif
