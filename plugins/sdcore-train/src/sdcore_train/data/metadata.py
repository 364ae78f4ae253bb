"""Reading metadata.jsonl: what a data set says about its pictures, a line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .errors import DataError
from .listing import Listing
from .skips import Skips

METADATA = "metadata.jsonl"


class About(NamedTuple):
    """A row of metadata.

    Attributes:
        columns: all but the picture's name.
        folder: what names in it are relative to.
        where: names the line in messages.
    """

    columns: dict[str, Any]
    folder: str
    where: str


def read_metadata(listing: Listing, image_column: str, skips: Skips) -> dict[str, About]:
    """Rows of every metadata.jsonl below a folder, by the relative path of the picture that they are about.

    Args:
        listing: of the folder.
        image_column: where the picture's name is if there is no ``file_name``.
        skips: is told of pictures that are named and not there.

    Raises:
        DataError: a line is not an object of JSON, names no picture, or one that was named before.
    """
    found: dict[str, About] = {}
    for name in sorted(name for name in listing.files if os.path.basename(name) == METADATA):
        below, path = os.path.dirname(name), listing.path(name)
        folder = os.path.join(listing.root, below)
        for number, row in _json_lines(path):
            where = f"{path}, line {number}"
            file = row.pop("file_name", None) or row.pop(image_column, None)
            if not isinstance(file, str):
                raise DataError(f"{where}: has no file_name: each line needs the name of its picture")
            relative = os.path.normpath(os.path.join(below, file)).replace(os.sep, "/")
            if relative in found:
                raise DataError(f"{where}: {file} was named before: give several captions of a picture as a list")
            if relative not in listing.files and not os.path.isfile(listing.path(relative)):
                skips.add(relative, f"{METADATA} names it, and it is not there")
                continue
            found[relative] = About(row, folder, where)
    return found


def read_text(path: str | Path) -> str:
    """A text file in UTF-8; DataError if it is not."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}): save it so") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _json_lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: is not an object such as {{'file_name': ..., 'text': ...}}")
        yield number, row
