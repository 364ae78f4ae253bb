"""From what a source has for a picture to its record: captions, size, score; and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sdcore_train.config import Source
from sdcore_train.records import Record

from .errors import DataError
from .headers import HEAD, picture_size
from .reading import Payload, read_grey, read_rgb
from .skips import Skips, some

#: What a source says of sizes; left out where the picture has been looked into anyway.
SIZE_COLUMNS = ("height", "width")

CAPTION_COLUMNS = ("captions", "text", "caption", "prompt")


@dataclass
class Row:
    """What a source has for one picture.

    Attributes:
        key: of the record.
        name: what the file is called, without folder and extension.
        payload: reads the picture's file.
        head: its first bytes, if they are known already.
        stamp, content: of the record.
        columns: its metadata; ``height`` and ``width`` there spare a look into the file.
        text: of the caption file beside it, or None.
        mask, control: the files of those, or None.
    """

    key: str
    name: str
    payload: Payload
    stamp: str
    head: bytes | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    mask: Payload | None = None
    control: Payload | None = None
    content: str = ""


def records_of(rows: Iterable[Row], source: Source, kind: str, skips: Skips) -> list[Record]:
    """Records of a source's rows.

    Args:
        rows: what the source has.
        source: as it was configured.
        kind: how it is laid out.
        skips: is told of what is left out.

    Raises:
        DataError: captions or control pictures are missing; a column has a wrong value.
    """
    records, bare = [], []
    trusted: bool | None = None
    for row in rows:
        captions = captions_of(row, source)
        if captions is None:
            bare.append(row.key)
            continue
        try:
            said = None if trusted is False else _said_size(row)
            size = said if said and trusted else _size(row)
            if said and trusted is None:
                # Such columns often tell of another version of the pictures. One look shows it.
                trusted = said == size
        except OSError as error:
            skips.add(row.key, str(error))
            continue
        records.append(_record(row, source, captions, size, skips.key(row.key)))
    if bare:
        raise DataError(_captions_missing(bare, len(bare) + len(records), source, kind))
    bare = [record.key for record in records if record.control is None]
    if bare and len(bare) < len(records):
        raise DataError(
            f"{source.path}: {len(bare)} of {len(records)} pictures have no control picture, such as "
            f"{some(bare)}: give all of them one, or put those without into a source of their own"
        )
    return records


def captions_of(row: Row, source: Source) -> tuple[str, ...] | None:
    """The captions of a row by the source's rules, or None if there is none. Blank ones do not count."""
    found: list[str] = []
    if source.captions in ("auto", "metadata"):
        found = _column_captions(row, source)
    if not found and source.captions in ("auto", "txt"):
        found = [line.strip() for line in (row.text or "").splitlines() if line.strip()]
    if source.captions == "name":
        name = caption_of_name(row.name)
        found = [name] if name else []
    if not found and source.caption is not None:
        found = [source.caption]
    return tuple(found) or None


def caption_of_name(name: str) -> str:
    """What a file name says: ``red_apple-01`` is "red apple"."""
    words = name.replace("_", " ").replace("-", " ").split()
    while len(words) > 1 and words[-1].strip("()").isdigit():
        words.pop()
    return " ".join(words)


def number_in(row: Row, column: str) -> float | None:
    """A finite number in a column, or None if it is empty or not there."""
    value = row.columns.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise DataError(f"{row.key}: its {column} is {value!r}: a finite number is needed")
    return number


def _column_captions(row: Row, source: Source) -> list[str]:
    names = CAPTION_COLUMNS if source.caption_column == "auto" else (source.caption_column,)
    for name in names:
        value = row.columns.get(name)
        texts = [value] if isinstance(value, str) else value
        if texts is None:
            continue
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{row.key}: its {name} is {value!r}: a caption or a list of captions is needed")
        found = [text.strip() for text in texts if text.strip()]
        if found:
            return found
    return []


def _size(row: Row) -> tuple[int, int]:
    return picture_size(row.payload(HEAD) if row.head is None else row.head, row.payload)


def _said_size(row: Row) -> tuple[int, int] | None:
    height, width = number_in(row, "height"), number_in(row, "width")
    if height is None or width is None:
        return None
    if height < 1 or width < 1 or height != int(height) or width != int(width):
        raise DataError(f"{row.key}: its height and width are {height:g} and {width:g}: pixels are needed")
    return int(height), int(width)


def _record(row: Row, source: Source, captions: tuple[str, ...], size: tuple[int, int], key: str) -> Record:
    used = {*CAPTION_COLUMNS, source.caption_column, source.score_column, *SIZE_COLUMNS}
    return Record(
        key=key,
        captions=captions,
        size=size,
        read=partial(read_rgb, row.payload, size),
        stamp=f"{row.stamp} {row.key}",
        content=row.content,
        score=number_in(row, source.score_column),
        weight=source.weight,
        role=source.role,
        mask=None if row.mask is None else partial(read_grey, row.mask),
        control=None if row.control is None else partial(read_rgb, row.control),
        extra={name: value for name, value in row.columns.items() if name not in used},
    )


_METADATA = {"folder": "metadata.jsonl", "huggingface": "the columns of the data set", "webdataset": "a .json file"}
_TEXT = {"folder": "a .txt file beside the picture", "webdataset": "a .txt or .caption file"}


def _captions_missing(bare: list[str], total: int, source: Source, kind: str) -> str:
    places = []
    if source.captions in ("auto", "metadata"):
        column = "" if source.caption_column == "auto" else f" (column {source.caption_column!r})"
        places.append(_METADATA[kind] + column)
    if source.captions in ("auto", "txt") and kind in _TEXT:
        places.append(_TEXT[kind])
    if source.captions == "name":
        places.append("the name of the file")
    return (
        f"{source.path}: {len(bare)} of {total} pictures have no caption, such as {some(bare)}; they were looked for "
        f"in {' and in '.join(places) or 'no place'}. Write them there; or take the files' names with "
        "captions = 'name'; or give all that have none the same with `caption` ('' trains without words)"
    )
