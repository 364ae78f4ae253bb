"""Files named by options, on their way into a record and back.

In a record a file is ``{"asset": name, "sha256": hex}``; ``sha256`` is empty where an option named no file but
something that the plugin knows, such as a hub id.
"""

from __future__ import annotations

import hashlib
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from .images import image_sha256
from .models.hashes import of_file
from .plugin import AssetMark, Options
from .record import AssetRecord

Change = Callable[[str, Any], Any]


def change_assets(options: type[Options], values: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """JSON values of options, with ``change(field, value)`` in place of each that is marked as an :data:`Asset`.

    Marks are found inside optional types, lists, tuples, mappings and nested models too.
    """
    return _fields(options, values, "", change)


def _fields(model: type[BaseModel], values: Mapping[str, Any], where: str, change: Change) -> dict[str, Any]:
    changed = dict(values)
    for name, field in model.model_fields.items():
        if name in values:
            changed[name] = _walk(field.annotation, field.metadata, values[name], f"{where}{name}", change)
    return changed


def _walk(annotation: Any, marks: Sequence[Any], value: Any, where: str, change: Change) -> Any:
    if value is None:
        return None
    if any(isinstance(mark, AssetMark) for mark in marks):
        return change(where, value)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _walk(args[0], args[1:], value, where, change)
    if origin in (Union, types.UnionType):
        kinds = [arg for arg in args if arg is not type(None)]
        for kind in kinds:
            # Of several types, only a text or what stands for a file can be meant as a file.
            if len(kinds) > 1 and _is_marked(kind) and not (isinstance(value, str) or is_asset(value)):
                continue
            changed = _walk(kind, (), value, where, change)
            if changed is not value:
                return changed
        return value
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, Mapping):
        return _fields(annotation, value, f"{where}.", change)
    if args and isinstance(value, list | tuple):
        of_item = list(args) if origin is tuple and Ellipsis not in args else [args[0]] * len(value)
        return [
            _walk(arg, (), item, f"{where}.{place}", change)
            for place, (arg, item) in enumerate(zip(of_item, value, strict=False))
        ]
    if len(args) == 2 and isinstance(value, Mapping):
        return {key: _walk(args[1], (), item, f"{where}.{key}", change) for key, item in value.items()}
    return value


def _is_marked(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated and any(isinstance(mark, AssetMark) for mark in get_args(annotation))


def is_asset(value: Any) -> bool:
    """Whether a JSON value stands for a file."""
    return isinstance(value, Mapping) and value.keys() == {"asset", "sha256"}


def file_asset(assets: list[AssetRecord], path: str | os.PathLike[str]) -> dict[str, str]:
    """What stands for a file or folder in a record; it is added to ``assets``.

    A text that names no file is kept as it is if it may be a name (``owner/name``), and cut to its last part if
    it is an absolute path: records are published.
    """
    file = Path(path)
    if file.is_file():
        return _known(assets, file.name, of_file(file), file.stat().st_size)
    if file.is_dir():
        return _known(assets, file.resolve().name or "folder", *folder_sha256(file))
    text = os.fspath(path)
    return {"asset": file.name if file.is_absolute() or text.startswith("~") else text, "sha256": ""}


def value_asset(assets: list[AssetRecord], value: Any) -> dict[str, str]:
    """The same for a picture or a tensor that was given in memory."""
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        return _known(assets, "pixels", image_sha256(value), len(value.tobytes()))
    if hasattr(value, "detach"):
        return _known(assets, "latents", *latents_sha256(value))
    return {"asset": type(value).__name__, "sha256": ""}


def latents_sha256(latents: Any) -> tuple[str, int]:
    """SHA-256 of a tensor's values as float32, and how many bytes these are."""
    raw = latents.detach().cpu().contiguous().float().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest(), len(raw)


def folder_sha256(folder: Path) -> tuple[str, int]:
    """SHA-256 over the names and hashes of a folder's files, and their size in bytes."""
    total, size = hashlib.sha256(), 0
    for file in files_below((folder,)):
        total.update(f"{file.relative_to(folder).as_posix()}\0{of_file(file)}\0".encode())
        size += file.stat().st_size
    return total.hexdigest(), size


def files_below(paths: Iterable[Path]) -> list[Path]:
    """The regular files among paths and in the folders among them, sorted within a folder."""
    found: list[Path] = []
    for path in paths:
        found += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [file for file in found if file.is_file()]


def _known(assets: list[AssetRecord], name: str, digest: str, size: int) -> dict[str, str]:
    # A file may be named what a record's reader refuses.
    name = re.sub(r"[/\\\x00-\x1f\x7f]", "?", name.encode("utf-8", "replace").decode())[:255]
    asset = AssetRecord(name=name, sha256=digest, size=size)
    if asset not in assets:
        assets.append(asset)
    return {"asset": name, "sha256": digest}
