"""A model's files, read tensor by tensor: a diffusers folder, or a single file in the original layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import ModelError

from .binding import Plan
from .files import COMPONENTS
from .places import UNET, Place, in_folder, in_single_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        path: the folder or file.
        family: "sd1", "sd2", "sdxl" or "refiner".
        layers_per_block: of its U-Net.
        places: file to key to the parameters in it.
        shapes: file to key to shape.
    """

    path: Path
    family: str
    layers_per_block: int
    places: Mapping[Path, Mapping[str, tuple[Place, ...]]]
    shapes: Mapping[Path, Mapping[str, tuple[int, ...]]]

    def plan(self) -> Plan:
        """Its modules, for binding a LoRA to them."""
        modules: dict[str, dict[str, tuple[int, ...]]] = {}
        real, biased = {}, set()
        for file, keys in self.places.items():
            for key, places in keys.items():
                for place in places:
                    module, _, last = place.parameter.rpartition(".")
                    if last == "weight":
                        shape = self.shapes[file][key]
                        shape = shape[::-1] if place.turned else shape
                        shape = shape if place.rows is None else (shape[0] // 3, *shape[1:])
                        modules.setdefault(place.component, {})[module] = shape
                        real[place.component, module] = module
                    elif last == "bias":
                        biased.add((place.component, module))
        return Plan(self.family, modules, real, frozenset(biased), self.layers_per_block)

    def parameters(self) -> dict[tuple[str, str], tuple[Path, str, Place]]:
        """Where each parameter is: (component, name) to file, key and place."""
        return {
            (place.component, place.parameter): (file, key, place)
            for file, keys in self.places.items()
            for key, places in keys.items()
            for place in places
        }


def part_of(tensor: Tensor, place: Place) -> Tensor:
    """The parameter in a file's tensor: a view of it."""
    if place.rows is not None:
        third = tensor.shape[0] // 3
        tensor = tensor[place.rows * third : (place.rows + 1) * third]
    return tensor.T if place.turned else tensor


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Look at a model's files.

    Args:
        source: a diffusers folder, a .safetensors file in the original layout, or the name of an installed model.

    Raises:
        ModelError: it is none of these, or a file is damaged.
    """
    path = Path(source).expanduser()
    if not path.exists():
        from sdcore.models import find_source, installed_models

        named = [model.path for model in installed_models() if model.name == str(source) and model.path]
        path = Path(named[0]) if named else find_source(str(source), "model")
    return _folder(path) if path.is_dir() else _single(path)


def _folder(path: Path) -> Checkpoint:
    from sdcore.models import find_weights, read_header

    config = _config(path / "unet" / "config.json")
    places: dict[Path, dict[str, tuple[Place, ...]]] = {}
    shapes: dict[Path, Mapping[str, tuple[int, ...]]] = {}
    for component in COMPONENTS:
        if not (path / component / "config.json").is_file():
            continue
        for file in find_weights(path / component, False):
            shapes[file] = read_header(file).shapes
            places[file] = {key: tuple(in_folder(component, key)) for key in shapes[file]}
    wide = config.get("addition_embed_type") == "text_time"
    single = not (path / "text_encoder" / "config.json").is_file()
    family = ("refiner" if single else "sdxl") if wide else "sd2" if config.get("use_linear_projection") else "sd1"
    layers = config.get("layers_per_block", 2)
    return Checkpoint(path, family, int(layers if isinstance(layers, int) else layers[0]), places, shapes)


def _config(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.parent.parent}: is no diffusers folder of a model ({path.name} of its U-Net: {error})"
        ) from error
    return found


def _single(path: Path) -> Checkpoint:
    from sdcore.models import read_header

    shapes = read_header(path).shapes
    if f"{UNET}input_blocks.0.0.weight" not in shapes:
        raise ModelError(f"{path}: is no checkpoint in the original layout; give one, or a diffusers folder")
    # The first downsampling ends the first block.
    downs = [int(m[1]) for key in shapes if (m := re.match(rf"{UNET}input_blocks\.(\d+)\.0\.op\.", key))]
    layers = min(downs) - 1 if downs else 2
    if any(key.startswith("conditioner.embedders.1.") for key in shapes):
        family = "sdxl"
    elif any(key.startswith("conditioner.embedders.0.model.") for key in shapes):
        family = "refiner"
    else:
        family = "sd2" if any(key.startswith("cond_stage_model.model.") for key in shapes) else "sd1"
    return Checkpoint(
        path, family, layers, {path: {k: tuple(in_single_file(k, layers)) for k in shapes}}, {path: shapes}
    )
