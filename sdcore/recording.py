"""Making the record of a picture."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assets import change_assets, file_asset, value_asset
from .discovery import sdcore_version
from .errors import ModelError
from .host import PluginHost
from .images import image_sha256
from .models.hashes import of_file
from .order import Plan
from .record import AssetRecord, ModelRecord, Record
from .request import GenerateRequest

if TYPE_CHECKING:
    import torch

    from .models import Model
    from .resolve import Uses
    from .run import Run


#: Fields of a request that a record tells otherwise: ``seeds`` and ``batch``, and files by their hashes.
NOT_RECORDED = {"use", "image", "seed", "count", "batch_size"}
#: Distributions whose version can change a pixel.
LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "numpy", "scipy", "torchsde", "pillow")


def software(host: PluginHost, plugins: tuple[str, ...]) -> dict[str, str]:
    """Versions of everything that decides a result."""
    found = {"sdcore": sdcore_version(), **_libraries()}
    for name in plugins:
        record = host.records[name]
        if record.distribution == "(given)":
            found[f"plugin {name}"] = _source_version(record.factory)
        else:
            found[record.distribution] = record.version
    return found


@functools.cache
def _libraries() -> Mapping[str, str]:
    """Read once: looking for what is installed takes longer than a step of a small model."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _source_version(factory: Any) -> str:
    """What stands for the version of a class that has none: the hash of the file that it is written in."""
    try:
        return f"file {of_file(Path(inspect.getfile(factory)))[:16]}"
    except (TypeError, OSError, ModelError):
        return "-"


def platform_line(device: torch.device) -> str:
    """What computes: system, machine, and the vector instructions of the CPU that torch uses, or the GPU."""
    import torch

    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    else:
        chip = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} {chip}"


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
    data = _plain(request)
    if request.image is not None:
        named = isinstance(image, str | os.PathLike) and not str(image).startswith("data:")
        data["image"] = file_asset(assets, image) if named else value_asset(assets, request.image)
    entries = []
    without = unrecorded(uses)
    for name, options in uses:
        if name in without:
            continue
        values: dict[str, Any] = {}
        if options is not None:
            dumped = options.model_dump(mode="json", fallback=lambda value: value_asset(assets, value))
            values = change_assets(
                type(options),
                dumped,
                lambda _, value: file_asset(assets, value) if isinstance(value, str) else value,
            )
        entries.append({"plugin": name, "options": values})
    if entries:
        data["use"] = entries
    return data, tuple(assets)


def _plain(request: GenerateRequest) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_defaults=True, exclude=NOT_RECORDED)


def unrecorded(uses: Uses) -> frozenset[str]:
    """Names of the plugins in use that a record leaves out (:attr:`sdcore.Options.recorded`)."""
    return frozenset(name for name, options in uses if options is not None and not options.recorded)


def make_record(
    run: Run,
    plan: Plan,
    host: PluginHost,
    request: Mapping[str, Any],
    assets: tuple[AssetRecord, ...],
    place: int,
    metadata: dict[str, dict[str, Any]],
    image: Any,
    without: frozenset[str] = frozenset(),
) -> Record:
    """The record of one picture of a run.

    Args:
        run: the run.
        plan: its plan.
        host: the engine's plugins.
        request: the request as JSON values, before plugins changed it; ``seeds`` are narrowed to this batch's.
        assets: the files that it names.
        place: which picture of the batch.
        metadata: what plugins add, by plugin.
        image: the finished picture.
        without: names of plugins to leave out.
    """
    import torch

    model: Model = run.model
    ran = _plain(run.request)
    fields = (ran.keys() | request.keys()) - {"seeds", "use", "image"}
    return Record(
        software=software(host, tuple(name for name in run.plugins if name not in without)),
        model=ModelRecord(
            family=model.family,
            source=model.source,
            components=model.hashes(),
            scheduler=_settings(model.scheduler_config),
        ),
        request={**request, "seeds": list(run.seeds)},
        changes={name: ran.get(name) for name in fields if ran.get(name) != request.get(name)},
        assets=assets,
        seed=run.seeds[place],
        index=run.indices[place],
        batch=run.seeds,
        device=str(run.device),
        dtype=str(run.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        platform=platform_line(run.device),
        plan=plan.lines(without),
        metadata=metadata,
        pixels_sha256=image_sha256(image),
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's settings as JSON, without what diffusers keeps beside them (paths, versions)."""
    own = {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}
    found: dict[str, Any] = json.loads(json.dumps(own, default=str))
    return found
