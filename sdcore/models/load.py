"""The two ways to a `Model`: from files, and from the components of a diffusers pipeline."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.errors import ModelError
from sdcore.quiet import quiet

from . import family as families
from . import hub, prediction, templates
from .checkpoint import is_pickle
from .folder import NETWORKS, TOKENIZERS, Parts, read_folder
from .installed import choose_installed, installed_models
from .model import Model
from .overrides import read_overrides
from .place import choose_place
from .single_file import read_single_file

if TYPE_CHECKING:
    import torch


@quiet()
def load_model(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    components: Mapping[str, object] | None = None,
    allow_pickle: bool = False,
    prediction_type: str | None = None,
) -> Model:
    """Load a model.

    Args:
        source: the name of an installed model package, a diffusers folder, a single file in the original layout,
            or a hub id "owner/name". A bare name is looked for among the installed models first; "./name" is
            always a path. None is the installed model, or the one that SDCORE_MODEL names.
        device: None is the CUDA device if there is one, else the CPU.
        dtype: of the weights; None is float16 on a CUDA device, else float32.
        components: instead of those of the source, by name: "unet", "vae", "text_encoder", "text_encoder_2" as
            a folder or a module ("vae" also as a single file), "tokenizer", "tokenizer_2" as a folder or an
            object, "scheduler" as a configuration or its folder. Modules are used as they are.
        allow_pickle: whether .ckpt and .bin files may be read; also then only plain tensors are.
        prediction_type: "epsilon", "v_prediction" or "sample", where the source says it wrongly or not at all.

    Raises:
        ModelError: saying what is wrong with the source, and what to do.
    """
    place = choose_place(device, dtype, allow_pickle)
    name, path = _find(source)
    given = read_overrides(components or {}, place)
    chosen = given.components | ({"scheduler": None} if given.scheduler_config else {})
    parts = read_folder(path, place, chosen) if path.is_dir() else read_single_file(path, place, chosen)
    parts.components |= given.components
    parts.files |= given.files
    if given.scheduler_config:
        parts.scheduler_config = given.scheduler_config
    if prediction_type is not None:
        parts.scheduler_config["prediction_type"] = prediction.check(prediction_type)
    model = _assemble(parts, name, str(path))
    if model.family in ("sd1", "sd2"):  # as diffusers' pipelines of them do, whatever the configuration says
        model.scheduler_config["steps_offset"] = 1
    if given.unscaled_vae:
        model.vae.register_to_config(scaling_factor=templates.VAE[model.family]["scaling_factor"])
    return model


def from_pipeline(pipe: object) -> Model:
    """The components of a diffusers pipeline as a model: shared with it, and nothing about them is changed.

    Raises:
        ModelError: the pipeline lacks a component, or is of another family.
    """
    found = getattr(pipe, "components", None)
    if not isinstance(found, Mapping):
        raise ModelError(f"from_pipeline: {type(pipe).__name__} is not a diffusers pipeline: it has no components")
    name = type(pipe).__name__
    for needed in ("unet", "vae", "scheduler"):
        if found.get(needed) is None:
            raise ModelError(f"{name}: has no {needed}; sdcore runs Stable Diffusion 1.x, 2.x and XL pipelines")
    parts = Parts({key: found[key] for key in (*NETWORKS, *TOKENIZERS) if found.get(key) is not None})
    scheduler = found["scheduler"]
    parts.scheduler_config = dict(scheduler.config) | {
        "_class_name": type(scheduler).__name__,
        "_use_default_values": _own_defaults(scheduler),
    }
    flags: Mapping[str, Any] = getattr(pipe, "config", {})
    parts.config = {k: v for k, v in flags.items() if k[0] != "_" and isinstance(v, (bool, int, float, str))}
    return _assemble(parts, "pipeline", name)


def _assemble(parts: Parts, source: str, what: str) -> Model:
    found = parts.components
    family = families.recognise(found["unet"], found, what)
    used = {"sdxl": ("", "_2"), "refiner": ("_2",)}.get(family, ("",))
    for suffix in used:
        if found.get("tokenizer" + suffix) is None:
            raise ModelError(
                f"{what}: has no tokenizer{suffix}; give one with components={{'tokenizer{suffix}': folder}}"
            )
    model = Model(
        family=family,
        unet=found["unet"],
        vae=found["vae"],
        text_encoders=tuple(found["text_encoder" + suffix] for suffix in used),
        tokenizers=tuple(found["tokenizer" + suffix] for suffix in used),
        scheduler_config=parts.scheduler_config,
        source=source,
        defaults=parts.defaults,
        config=templates.PIPELINE[family] | parts.config,
        weight_files=parts.files,
    )
    model.task  # noqa: B018 - raises here, before any run, if the channels fit no task
    return model


def _own_defaults(scheduler: Any) -> list[str]:
    """Settings that a scheduler's class filled in: without those that a pipeline has set since."""
    known = inspect.signature(type(scheduler).__init__).parameters
    config = scheduler.config
    filled_in = config.get("_use_default_values") or ()
    return [name for name in filled_in if name in known and config.get(name) == known[name].default]


def _find(source: str | os.PathLike[str] | None) -> tuple[str, Path]:
    """What the user named, in words and as a folder or file."""
    if source is None:
        return choose_installed()
    text = os.fspath(source)
    path = Path(text).expanduser()
    if isinstance(source, str) and os.sep not in text and any(model.name == text for model in installed_models()):
        return choose_installed(text)
    if path.is_dir() or (path.is_file() and (path.suffix == ".safetensors" or is_pickle(path))):
        return text, path
    if path.exists():
        raise ModelError(f"{path}: sdcore reads diffusers folders and .safetensors files; this is neither")
    if isinstance(source, str) and hub.is_hub_id(text):
        return text, hub.fetch(text)
    names = ", ".join(model.name for model in installed_models()) or "none"
    raise ModelError(f"{text}: no such folder or file, and no such installed model (installed: {names})")
