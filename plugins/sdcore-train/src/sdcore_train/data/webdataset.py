"""Pictures in WebDataset shards: plain .tar files, in which what belongs together has the same name up to a dot.

The places of all files in a shard are found once, so that pictures can be read in any order.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sdcore_train.config import Source

from .errors import DataError
from .headers import HEAD
from .listing import EXTENSIONS
from .rows import SIZE_COLUMNS, Row
from .shard_names import shard_paths
from .skips import Skips

_BLOCK = 512
_TEXTS = ("txt", "caption")


@dataclass(frozen=True)
class Member:
    """Where a file lies in a shard, in bytes."""

    start: int
    size: int
    changed: float


def webdataset_rows(source: Source, skips: Skips) -> Iterator[Row]:
    """What is in the shards, in the order of the shards and in their own order.

    Raises:
        DataError: a shard is not there or is compressed; a sample has several pictures.
    """
    for path in shard_paths(source.path):
        try:
            with path.open("rb") as file:
                for name, sample in _samples(path, file, skips).items():
                    key = f"{path.name}:{name}"
                    try:
                        row = _row(source, path, file, key, sample)
                    except OSError as error:
                        skips.add(key, str(error))
                        continue
                    if row is not None:
                        yield row
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _samples(path: Path, file: BinaryIO, skips: Skips) -> dict[str, dict[str, Member]]:
    """The files of a shard by the name of their sample and their extension, which begins at the first dot."""
    found: dict[str, dict[str, Member]] = {}
    end, last = 0, ""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
                folder, _, name = info.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if info.isreg() and dot and stem:
                    last = posixpath.normpath(f"{folder}/{stem}".lstrip("/"))
                    found.setdefault(last, {})[extension.lower()] = Member(info.offset_data, info.size, info.mtime)
        if any(_bytes_at(file, end, _BLOCK)):
            raise tarfile.ReadError("what follows its last file is damaged")
    except tarfile.ReadError as error:
        if not found and _bytes_at(file, 0, 2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"(\xb5"):
            raise DataError(f"{path}: is compressed, so that nothing in it can be found at once: unpack it") from error
        found.pop(last, None)  # parts of it may be missing
        skips.add(path.name, f"the shard is not whole ({error}); {len(found)} whole samples were found in it")
    return found


def _row(source: Source, path: Path, file: BinaryIO, key: str, sample: dict[str, Member]) -> Row | None:
    mask = _companion(sample, source.masks or "mask")
    control = _companion(sample, source.controls or "control")
    extension = _picture(source, key, {name for name in sample if name not in (mask, control)})
    if extension is None:
        return None

    def text(name: str) -> str:
        member = sample[name]
        return _bytes_at(file, member.start, member.size).decode("utf-8-sig")

    try:
        columns: Any = json.loads(text("json")) if "json" in sample else {}
        words = next((text(name) for name in _TEXTS if name in sample), None)
        if source.caption_column in sample:
            columns = {**columns, source.caption_column: text(source.caption_column)}
    except ValueError as error:
        raise OSError(f"its text cannot be read ({error})") from error
    if not isinstance(columns, dict):
        raise OSError("its .json is not an object")
    picture = sample[extension]
    head = _bytes_at(file, picture.start, min(HEAD, picture.size))
    digest = hashlib.blake2b(head, digest_size=8).hexdigest()
    return Row(
        key=key,
        name=os.path.basename(key.partition(":")[2]),
        payload=partial(_part, path, picture.start, picture.size),
        head=head,
        stamp=f"{digest}-{picture.size:x}-{picture.changed!r}",
        content=f"{digest}-{picture.size:x}",
        columns={name: value for name, value in columns.items() if name not in SIZE_COLUMNS},
        text=words,
        mask=None if mask is None else partial(_part, path, sample[mask].start, sample[mask].size),
        control=None if control is None else partial(_part, path, sample[control].start, sample[control].size),
    )


def _picture(source: Source, key: str, extensions: set[str]) -> str | None:
    """The extension of a sample's picture; None if it has none."""
    if source.image_column != "image":
        return source.image_column if source.image_column in extensions else None
    found = sorted(name for name in extensions if name.endswith(EXTENSIONS) or f".{name}" in EXTENSIONS)
    plain = [name for name in found if "." not in name]
    if len(plain) > 1 or (not plain and len(found) > 1):
        raise DataError(f"{key}: has several pictures ({', '.join(found)}): say which one with image_column")
    return next(iter(plain or found), None)


def _companion(sample: dict[str, Member], name: str) -> str | None:
    """The extension of a sample's mask or control picture: ``name`` itself, or with an extension behind it."""
    return next((one for one in (name, *(name + extension for extension in EXTENSIONS)) if one in sample), None)


def _part(path: Path, start: int, size: int, count: int = -1) -> bytes:
    wanted = size if count < 0 else min(count, size)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        data = file.read(wanted)
    if len(data) < wanted:
        raise OSError(f"{path.name} ends inside of it")
    return data


def _bytes_at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)
