"""Pictures in a Hugging Face dataset on disk: saved with ``save_to_disk``, or a folder of parquet files.

Needs the package ``datasets``. Rows are taken as they are stored and decoded here, so that a broken picture is one
picture less, and not the end.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sdcore_train.config import Source

from .errors import DataError
from .headers import HEAD
from .rows import SIZE_COLUMNS, Row
from .skips import Skips

#: Rows that are looked at together.
ROWS = 256


def huggingface_rows(source: Source, root: Path, skips: Skips) -> Iterator[Row]:
    """The rows of a dataset, in their order.

    Raises:
        DataError: ``datasets`` is not installed; it is not a dataset; it has several splits, or not the columns.
    """
    dataset = _open(source, root)
    picture = _picture_column(source, dataset)
    mask = _companion_column(source.masks, "masks", "mask", dataset)
    control = _companion_column(source.controls, "controls", "control", dataset)
    files = [column for column in (picture, mask, control) if column is not None]
    others = [column for column in dataset.column_names if column not in (*files, *SIZE_COLUMNS)]
    name = root.resolve().name
    view = dataset.with_format("arrow")
    single = {column: dataset.select_columns([column]).with_format("arrow") for column in files}
    for start in range(0, len(dataset), ROWS):
        table = view[start : start + ROWS]
        columns = table.select(others).to_pylist()
        cells = {column: table.column(column) for column in files}
        for row in range(table.num_rows):
            index = start + row
            key = f"{name}:{index:07d}"
            try:
                data, file = _cell(cells[picture][row], root)
            except OSError as error:
                skips.add(key, str(error))
                continue
            yield Row(
                key=key,
                name=os.path.splitext(os.path.basename(file))[0],
                payload=partial(_payload, single[picture], index, root),
                head=bytes(data[:HEAD]),
                stamp=_stamp(data),
                content=_stamp(data),
                columns=columns[row],
                mask=None if mask is None else _companion(cells[mask][row], single[mask], index, root),
                control=None if control is None else _companion(cells[control][row], single[control], index, root),
            )


def _open(source: Source, root: Path) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"{source.path}: is a Hugging Face dataset, for which the package datasets is needed: "
            'pip install "sdcore-train[datasets]"'
        ) from error
    saved = any((root / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        found = datasets.load_from_disk(str(root)) if saved else datasets.load_dataset(str(root))
    except Exception as error:  # what a foreign library raises on foreign files
        raise DataError(f"{source.path}: cannot be opened as a Hugging Face dataset: {error}"[:1000]) from error
    if isinstance(found, datasets.Dataset):
        return found
    if "train" in found or len(found) == 1:
        return found["train"] if "train" in found else next(iter(found.values()))
    raise DataError(f"{source.path}: has the splits {', '.join(found)}: give the folder of one of them")


def _picture_column(source: Source, dataset: Any) -> str:
    if source.image_column in dataset.column_names:
        return source.image_column
    pictures: list[str] = [name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"]
    if source.image_column == "image" and len(pictures) == 1:
        return pictures[0]
    raise DataError(
        f"{source.path}: has no column {source.image_column!r}; it has {', '.join(dataset.column_names)}: "
        "say which one holds the picture with image_column"
    )


def _companion_column(setting: str | None, field: str, usual: str, dataset: Any) -> str | None:
    name = setting or usual
    if name in dataset.column_names:
        return name
    if setting is None:
        return None
    raise DataError(f"{field}: there is no column {setting!r}; there are {', '.join(dataset.column_names)}")


def _companion(cell: Any, view: Any, index: int, root: Path) -> Any:
    return partial(_payload, view, index, root) if cell.is_valid else None


def _payload(view: Any, index: int, root: Path, count: int) -> bytes:
    data = _cell(view[index].column(0)[0], root)[0]
    return bytes(data if count < 0 else data[:count])


def _cell(cell: Any, root: Path) -> tuple[memoryview, str]:
    """The file in a cell, and what it is called. A cell holds bytes, a path, or a struct of both."""
    arrow: Any = import_module("pyarrow")
    name = ""
    if arrow.types.is_struct(cell.type):
        path = cell["path"].as_py() if cell.is_valid and "path" in cell.keys() else None  # noqa: SIM118  # not a dict
        name = path or ""
        cell = cell["bytes"] if cell.is_valid and cell["bytes"].is_valid else arrow.scalar(path)
    if not cell.is_valid:
        raise OSError("it has no picture")
    if arrow.types.is_string(cell.type) or arrow.types.is_large_string(cell.type):
        path = root / cell.as_py()
        return memoryview(path.read_bytes()), str(path)
    if not (arrow.types.is_binary(cell.type) or arrow.types.is_large_binary(cell.type)):
        raise OSError(f"its picture is of the type {cell.type}: bytes or a path are needed")
    return memoryview(cell.as_buffer()), name


def _stamp(data: memoryview) -> str:
    digest = hashlib.blake2b(data[:HEAD], digest_size=8)
    digest.update(data[-HEAD:])
    return f"{digest.hexdigest()}-{len(data):x}"
