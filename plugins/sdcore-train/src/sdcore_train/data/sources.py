"""From the sources of a configuration to records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sdcore_train.config import Source
from sdcore_train.records import Record

from .choosing import chosen_rows
from .errors import DataError
from .folder import folder_rows
from .huggingface import huggingface_rows
from .listing import EXTENSIONS
from .rows import Row, records_of
from .skips import Skips
from .webdataset import webdataset_rows

#: Wraps what takes long, and shows how far it is.
Watch = Callable[[Iterator[Row]], Iterator[Row]]

_SAVED = {"state.json", "dataset_dict.json"}


def source_records(source: Source, skips: Skips, watch: Watch = iter, but: Path | None = None) -> list[Record]:
    """The records of one source, in an order that does not depend on the file system.

    Args:
        source: as it is configured.
        skips: is told of what is left out.
        watch: shows how far the reading is.
        but: a folder that is passed over.

    Raises:
        DataError: it cannot be read, or what it holds cannot be used.
    """
    root = Path(source.path).expanduser()
    kind = kind_of(source, root)
    if kind == "webdataset":
        rows = webdataset_rows(source, skips)
    else:
        _check_folder(source, root)
        rows = huggingface_rows(source, root, skips) if kind == "huggingface" else folder_rows(source, root, skips, but)
    before = len(skips)
    records = records_of(chosen_rows(watch(rows), source), source, kind, skips)
    if not records:
        left_out = skips.pairs[before:]
        why = f": {len(left_out)} were left out; {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise DataError(f"{source.path}: holds no pictures that can be used{why}")
    return records


def kind_of(source: Source, root: Path) -> str:
    """How a source is laid out, by what it says or by what is there."""
    if source.kind != "auto":
        return source.kind
    if not root.is_dir():
        braces = "{" in source.path or "://" in source.path
        return "webdataset" if braces or ".tar" in root.name else "folder"
    names = {name for place in (root, root / "data") if place.is_dir() for name in os.listdir(place)}
    if names & _SAVED or any(name.endswith(".parquet") for name in names):
        return "huggingface"
    tar = any(name.endswith(".tar") for name in names)
    return "webdataset" if tar and not any(name.lower().endswith(EXTENSIONS) for name in names) else "folder"


def _check_folder(source: Source, root: Path) -> None:
    if not root.exists():
        raise DataError(
            f"data: there is no folder {source.path}: check the path (data sets of a hub must be downloaded first)"
        )
    if not root.is_dir():
        raise DataError(f"data: {source.path} is a file: give the folder of pictures")
