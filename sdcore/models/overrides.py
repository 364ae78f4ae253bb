"""Components that a caller gives in place of those of a source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sdcore.errors import ModelError

from .checkpoint import read_weights
from .folder import NETWORKS, TOKENIZERS, Parts, read_component, read_scheduler, read_tokenizer
from .place import Place
from .single_file import find_family, read_unet, read_vae


def read_overrides(components: Mapping[str, object], place: Place) -> Parts:
    """Read what `components` of `load_model` names.

    Raises:
        ModelError: a name is unknown, or what it names is missing, damaged or of another kind.
    """
    known = (*NETWORKS, *TOKENIZERS, "scheduler")
    wrong = sorted(components.keys() - set(known))
    if wrong:
        raise ModelError(f"components: {wrong[0]!r} is unknown; expected one of {', '.join(known)}")
    given = Parts()
    for name, part in components.items():
        if isinstance(part, (str, os.PathLike)):
            _read(given, name, Path(part).expanduser(), place)
        elif name != "scheduler":
            given.components[name] = part
        elif isinstance(part, Mapping) and "_class_name" in part:
            given.scheduler_config = dict(part)
        else:
            raise ModelError("components: 'scheduler' needs a configuration with '_class_name', or its folder")
    return given


def _read(given: Parts, name: str, path: Path, place: Place) -> None:
    if not path.exists():
        raise ModelError(f"components: {name}: {path} does not exist")
    if name == "scheduler":
        given.scheduler_config = read_scheduler(path)
    elif name in TOKENIZERS:
        given.components[name] = read_tokenizer(path)
    elif path.is_dir():
        given.components[name], given.files[name] = read_component(name, path, place)
    elif name in ("vae", "unet"):
        weights, _ = read_weights(path, place.allow_pickle)
        if name == "vae":
            given.components[name] = read_vae(weights, "sd1", place, path)
            given.unscaled_vae = True
        else:
            given.components[name] = read_unet(weights, find_family(weights, path), None, place, path)
        given.files[name] = (path,)
    else:
        raise ModelError(f"components: {name}: {path} is a file; name the folder with its config.json")
