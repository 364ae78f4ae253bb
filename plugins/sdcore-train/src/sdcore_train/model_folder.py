"""A model as a folder in the layout of diffusers, which sdcore and diffusers load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .monitor.log import LOG

if TYPE_CHECKING:
    import torch

    from sdcore.models import Model

    from .job import Job

_PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}


def save_model(
    model: Model,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    scheduler: Mapping[str, Any] | None = None,
    before: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write a model as a diffusers folder, whole or not at all.

    Args:
        model: the model.
        folder: is replaced if it exists: ask :func:`in_the_way` before any work.
        dtype: of the stored weights; None is that of the model.
        scheduler: changes of the scheduler's configuration.
        before: by "component/weight", weights to store instead of the model's, which were rounded (`Job.before`).

    Returns:
        The folder.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(model, temporary, dtype, scheduler or {}, before or {})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def in_the_way(job: Job, name: str) -> Iterator[str]:
    """What a training must not replace by what it will write.

    Args:
        job: the training, before any work.
        name: of the file or folder in its output folder.
    """
    target = job.destination / name
    if not target.exists():
        return
    whole = target.resolve()
    if any(file.resolve().is_relative_to(whole) for files in job.model.weight_files.values() for file in files):
        yield f"{target} is the model that would be trained, and the result would replace it; choose another output"
    elif not (job.destination / LOG).exists():
        yield f"{target} is in the way, and no training wrote it; choose another output"


def _write(
    model: Model, folder: Path, dtype: Any, scheduler: Mapping[str, Any], before: Mapping[str, torch.Tensor]
) -> None:
    # Some pipelines of diffusers, such as that for inpainting, ask for the version.
    index: dict[str, Any] = {"_class_name": _PIPELINES[model.family], "_diffusers_version": version("diffusers")}
    for name, module in model.components.items():
        library = "transformers" if name.startswith("text_encoder") else "diffusers"
        index[name] = [library, _class_of(module)]
        _save_module(module, folder / name, dtype, before, f"{name}/")
    suffixes = [name.removeprefix("text_encoder") for name in model.components if name.startswith("text_encoder")]
    for suffix, tokenizer in zip(suffixes, model.tokenizers, strict=True):
        index["tokenizer" + suffix] = ["transformers", type(tokenizer).__name__]
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
    config = {**model.scheduler_config, **scheduler}
    index["scheduler"] = ["diffusers", config.get("_class_name", "DDIMScheduler")]
    _json(folder / "scheduler" / "scheduler_config.json", config)
    if model.family in ("sd1", "sd2"):
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None]}
        index["requires_safety_checker"] = False
    index |= {key: value for key, value in model.config.items() if key not in index}
    _json(folder / "model_index.json", index)
    if model.defaults:
        _json(folder / "sdcore.json", {"defaults": dict(model.defaults)})


def save_network(network: Any, folder: Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write one network with its configuration as diffusers does, whole or not at all; an older one is replaced.

    Args:
        network: of diffusers or transformers.
        folder: for it.
        dtype: of the stored weights; None is that of the network.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        _save_module(network, temporary, dtype)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _save_module(
    module: Any, folder: Path, dtype: Any, before: Mapping[str, torch.Tensor] = MappingProxyType({}), prefix: str = ""
) -> None:
    from safetensors.torch import save_file

    found = {name: before.get(prefix + name, t).detach() for name, t in module.state_dict().items()}
    weights = {
        name: (t.to("cpu", dtype) if t.is_floating_point() else t.cpu()).contiguous() for name, t in found.items()
    }
    folder.mkdir()
    name = "model.safetensors" if hasattr(module.config, "model_type") else "diffusion_pytorch_model.safetensors"
    path = folder / name
    path.touch()
    rights = path.stat().st_mode  # of new files here; the library makes them readable to their owner only
    save_file(weights, path, {"format": "pt"})
    path.chmod(rights)
    config = module.config.to_dict() if hasattr(module.config, "to_dict") else dict(module.config)
    if not hasattr(module.config, "to_dict"):
        config = {"_class_name": _class_of(module), **{k: v for k, v in config.items() if k[0] != "_"}}
    config.pop("_name_or_path", None)  # says where on this machine it was loaded from
    _json(folder / "config.json", config)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


def _class_of(module: Any) -> str:
    # torch's fully_shard puts this before the name of a network in shards.
    return type(module).__name__.removeprefix("FSDP")
