"""Making the record of a picture."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import sdcore_version
from .host import PluginHost
from .images import image_sha256
from .models.hashes import of_file as file_hash
from .order import Plan
from .plugin import AssetMark, Options
from .record import AssetRecord, ModelRecord, Record
from .request import GenerateRequest

if TYPE_CHECKING:
    from .models import Model
    from .resolve import Uses
    from .run import Run


def software(host: PluginHost, plugins: tuple[str, ...]) -> dict[str, str]:
    """Versions of everything that decides a result."""
    found = {"sdcore": sdcore_version()}
    for name in ("torch", "diffusers", "transformers"):
        found[name] = importlib.metadata.version(name)
    for name in plugins:
        record = host.records[name]
        found[record.distribution if record.distribution != "(given)" else f"plugin {name}"] = record.version
    return found


def request_record(
    request: GenerateRequest, uses: Uses, image: Any = None
) -> tuple[dict[str, Any], tuple[AssetRecord, ...]]:
    """The request as JSON values, with every file replaced by its name and hash.

    Args:
        request: the complete request.
        uses: its resolved options.
        image: what the user gave as image, where ``request.image`` is the loaded picture.
    """
    assets: list[AssetRecord] = []
    data = request.model_dump(mode="json", exclude_defaults=True, exclude={"use", "image", "seed", "count"})
    if request.image is not None:
        data["image"] = _asset(assets, image, request.image)
    entries = []
    for name, options in uses:
        values: dict[str, Any] = {}
        if options is not None:
            values = options.model_dump(mode="json")
            for field, path in asset_fields(options):
                values[field] = _file_asset(assets, path)
        entries.append({"plugin": name, "options": values})
    if entries:
        data["use"] = entries
    return data, tuple(assets)


def asset_fields(options: Options) -> Iterator[tuple[str, str]]:
    """(field, path) of the options that name files."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if value is not None and any(isinstance(mark, AssetMark) for mark in _marks(field)):
            yield name, str(value)


def _marks(field: Any) -> list[Any]:
    marks = list(field.metadata)
    for inner in getattr(field.annotation, "__args__", ()):  # Asset | None
        marks += getattr(inner, "__metadata__", ())
    return marks


def _file_asset(assets: list[AssetRecord], path: str) -> dict[str, str]:
    file = Path(path)
    if file.is_file():
        digest, size = file_hash(file), file.stat().st_size
    elif file.is_dir():
        digest, size = _folder_hash(file)
    else:
        return {"asset": file.name, "sha256": ""}  # the plugin knows it by another name: a hub id, say
    asset = AssetRecord(name=file.name, sha256=digest, size=size)
    if asset not in assets:
        assets.append(asset)
    return {"asset": asset.name, "sha256": asset.sha256}


def _folder_hash(folder: Path) -> tuple[str, int]:
    import hashlib

    total, size = hashlib.sha256(), 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{file.relative_to(folder).as_posix()}\0{file_hash(file)}\0".encode())
        size += file.stat().st_size
    return total.hexdigest(), size


def _asset(assets: list[AssetRecord], given: Any, loaded: Any) -> dict[str, str]:
    """The input picture: by the file's hash if it was a file, else by its pixels."""
    import hashlib

    if isinstance(given, str | os.PathLike) and not str(given).startswith("data:"):
        return _file_asset(assets, str(given))
    if hasattr(loaded, "tobytes"):
        digest, size, name = image_sha256(loaded), len(loaded.tobytes()), "pixels"
    else:
        raw = loaded.detach().cpu().contiguous().float().numpy().tobytes()
        digest, size, name = hashlib.sha256(raw).hexdigest(), len(raw), "latents"
    assets.append(AssetRecord(name=name, sha256=digest, size=size))
    return {"asset": name, "sha256": digest}


def make_record(
    run: Run,
    plan: Plan,
    host: PluginHost,
    request: Mapping[str, Any],
    assets: tuple[AssetRecord, ...],
    place: int,
    metadata: dict[str, dict[str, Any]],
    image: Any,
) -> Record:
    """The record of one picture of a run.

    Args:
        run: the run.
        plan: its plan.
        host: the engine's plugins.
        request: the request as JSON values; ``seeds`` are narrowed to this batch's.
        assets: the files that it names.
        place: which picture of the batch.
        metadata: what plugins add, by plugin.
        image: the finished picture.
    """
    import torch

    model: Model = run.model
    return Record(
        software=software(host, run.plugins),
        model=ModelRecord(family=model.family, source=model.source, components=model.hashes()),
        request={**request, "seeds": list(run.seeds)},
        assets=assets,
        seed=run.seeds[place],
        index=run.indices[place],
        batch=run.seeds,
        device=str(run.device),
        dtype=str(run.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        plan=plan.lines(),
        metadata=metadata,
        pixels_sha256=image_sha256(image),
    )
