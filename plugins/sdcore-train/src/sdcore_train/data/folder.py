"""Pictures in a folder: with metadata.jsonl, with .txt files beside them, or with telling names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sdcore_train.config import Source

from .companions import Companions
from .listing import Listing
from .metadata import read_metadata, read_text
from .rows import Row
from .skips import Skips


def folder_rows(source: Source, root: Path, skips: Skips, but: Path | None = None) -> Iterator[Row]:
    """What is in a folder and the folders below it, in the order of their paths.

    Files and folders whose names begin with a dot are passed over, and so are masks and control pictures, and the
    folder ``but`` (where the training writes: its samples are no data).

    Raises:
        DataError: the folder cannot be read, or its metadata is wrong.
    """
    listing = Listing(root, but)
    metadata = read_metadata(listing, source.image_column, skips)
    masks = Companions(source.masks, "mask", "masks", root)
    controls = Companions(source.controls, "control", "controls", root)
    masks.check(metadata)
    controls.check(metadata)
    aside = {path for row in metadata.values() for path in (masks.named(row), controls.named(row)) if path}
    place = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=6).hexdigest()
    for relative in sorted({*listing.pictures, *metadata}):
        path = listing.path(relative)
        if path in aside or masks.holds(relative) or controls.holds(relative):
            continue
        about = metadata.get(relative)
        try:
            state = os.stat(path)
            mask, control = masks.of(relative, about), controls.of(relative, about)
            sizes = [state.st_size, *(os.stat(file).st_size for file in (mask, control) if file is not None)]
        except OSError as error:
            skips.add(relative, error.strerror or str(error))
            continue
        columns = {} if about is None else dict(about.columns)
        columns.pop(masks.column, None)
        columns.pop(controls.column, None)
        stem = os.path.splitext(relative)[0]
        yield Row(
            key=relative,
            name=os.path.basename(stem),
            payload=partial(_read, path),
            stamp=f"{place}-{state.st_size:x}-{state.st_mtime_ns:x}",
            content=repr(sizes),
            columns=columns,
            text=read_text(listing.path(stem + ".txt")) if stem + ".txt" in listing.files else None,
            mask=None if mask is None else partial(_read, mask),
            control=None if control is None else partial(_read, control),
        )


def _read(path: str, count: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(count)
