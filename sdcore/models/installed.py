"""Models that are installed as packages, found through the entry-point group "sdcore.models".

An entry point names a function without arguments that returns the path of a diffusers folder. One whose "sdcore.json"
says ``"variant_of": NAME`` leaves being the default to the model of that name, where both are installed.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sdcore.errors import ModelError

GROUP = "sdcore.models"


@dataclass(frozen=True)
class InstalledModel:
    """A model package.

    Attributes:
        name: its entry point's.
        distribution: the package that brings it, and its version, such as "sdcore-mini 0.1.0".
        path: its folder; None if it is broken.
        error: why it is broken; None if it is not.
    """

    name: str
    distribution: str
    path: Path | None
    error: str | None = None


def installed_models() -> list[InstalledModel]:
    """All model packages, by name. A broken one is listed with its error; nothing is raised."""
    found = (_inspect(entry) for entry in metadata.entry_points(group=GROUP))
    return sorted(found, key=lambda model: (model.name, model.distribution))


def default_of(models: Sequence[InstalledModel]) -> InstalledModel | None:
    """The one that is taken where none is named: that of SDCORE_MODEL, or the only one; None if one must be named."""
    chosen = _candidates(models, os.environ.get("SDCORE_MODEL"))
    return chosen[0] if len(chosen) == 1 else None


def choose_installed(name: str | None = None) -> tuple[str, Path]:
    """Name and folder of the installed model of this name; without one, of SDCORE_MODEL, or of the only one.

    Variants of installed models do not count as others.

    Raises:
        ModelError: there is none, there are several, or it is broken.
    """
    models = installed_models()
    wanted = name or os.environ.get("SDCORE_MODEL")
    chosen = _candidates(models, wanted)
    if wanted and not chosen:
        near = difflib.get_close_matches(wanted, [model.name for model in models], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"no installed model is called {wanted!r}{hint} (installed: {_names(models)})")
    if not chosen:
        raise ModelError(
            "no model was named and none is installed: `pip install sdcore-mini`, or name a diffusers folder, "
            "a .safetensors file or a hub id"
        )
    if len(chosen) > 1:
        raise ModelError(
            f"{len(chosen)} installed models would do: {_names(chosen)}; name one, or set SDCORE_MODEL to its "
            "name (or uninstall one, if both have the same)"
        )
    if chosen[0].path is None:
        raise ModelError(
            f"the installed model {chosen[0].name!r} ({chosen[0].distribution}) is broken: {chosen[0].error}. "
            "Reinstall it, or name another model."
        )
    return chosen[0].name, chosen[0].path


def _candidates(models: Sequence[InstalledModel], wanted: str | None) -> list[InstalledModel]:
    """Those of a name; without one, all but variants of others."""
    if wanted:
        return [model for model in models if model.name == wanted]
    names = {model.name for model in models}
    return [model for model in models if _variant_of(model) not in names - {model.name}] or list(models)


def _variant_of(model: InstalledModel) -> object:
    if model.path is None:
        return None
    try:
        return json.loads((model.path / "sdcore.json").read_text(encoding="utf-8"))["variant_of"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # most say nothing; what is damaged is told when it is loaded


def _names(models: list[InstalledModel]) -> str:
    return ", ".join(f"{model.name} ({model.distribution})" for model in models) or "none"


def _inspect(entry: metadata.EntryPoint) -> InstalledModel:
    owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
    try:
        function: Callable[[], str | os.PathLike[str]] = entry.load()
        path = Path(function())
    except Exception as error:  # noqa: BLE001 - it is someone else's code: whatever it raises, it is broken
        return InstalledModel(entry.name, owner, None, f"{type(error).__name__}: {error}")
    if not (path / "model_index.json").is_file():
        return InstalledModel(entry.name, owner, None, f"{path} has no model_index.json")
    return InstalledModel(entry.name, owner, path)
