"""What a LoRA file holds, from its header alone: layers, new words, and keys that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import early
from .deltas import algorithm_of, rank_of, shape_of
from .keys import read_key
from .names import is_text, module_name

Shapes = Mapping[str, tuple[int, ...]]
Modules = Mapping[str, Mapping[str, tuple[int, ...]]]
"""By component, the modules that have weights, in order, with the shapes of their weights."""


@dataclass(frozen=True)
class Layer:
    """The change of one module, as a file has it.

    Attributes:
        component: "unet", "text_encoder", "text_encoder_2", or "bare" if only the width can tell.
        module: name in diffusers or transformers, without "text_model.".
        algorithm: such as "lora".
        keys: part to key in the file.
        rank: None where there is none.
        shape: of the weight that it fits, see `shape_of`.
        dora: whether a magnitude goes with it.
    """

    component: str
    module: str
    algorithm: str
    keys: Mapping[str, str]
    rank: int | None
    shape: tuple[int, ...] | None

    @property
    def dora(self) -> bool:
        """Whether the lengths of rows are changed too."""
        return "dora" in self.keys


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        layout: "kohya", "diffusers", "peft", "original" or "early"; several joined by "+".
        layers: in the order of their names.
        words: new words: word to the keys of its vectors, by name of the text encoder's kind ("clip_l", "clip_g", "").
        unknown: key to the reason why it cannot be used.
        notes: what was read although it was not quite right.
        metadata: of the file.
        shapes: of all tensors.
        settings: of peft, by component.
        problems: why it cannot belong to the model.
    """

    layout: str
    layers: tuple[Layer, ...]
    words: Mapping[str, Mapping[str, str]]
    unknown: Mapping[str, str]
    notes: tuple[str, ...]
    metadata: Mapping[str, str]
    shapes: Shapes
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_contents(
    shapes: Shapes,
    metadata: Mapping[str, str],
    settings: Mapping[str, Mapping[str, Any]],
    *,
    layers_per_block: int = 2,
    modules: Modules | None = None,
) -> Contents:
    """Make sense of a file's keys.

    Args:
        shapes: by key.
        metadata: of the file.
        settings: of peft, by component ("" for all).
        layers_per_block: of the U-Net; where blocks of the original layout begin depends on it.
        modules: of the model, if there is one: the early layout can only be read with it.
    """
    words, unknown, rest = _words(shapes, metadata)
    notes: list[str] = []
    problems: list[str] = []
    parts: dict[tuple[str, str], dict[str, str]] = {}
    layouts: set[str] = set()
    doubled = 0
    if early.is_early(rest):
        layouts.add("early")
        taken = {key for key in rest if early.is_early([key])}
        if modules is None:
            unknown.update(dict.fromkeys(taken, "which module it belongs to can only be told with a model"))
        else:
            assigned, problems = early.assign({key: shapes[key] for key in taken}, metadata, modules)
            for key, (component, module, part) in assigned.items():
                parts.setdefault((component, module), {})[part] = key
            unknown.update(dict.fromkeys(taken - assigned.keys(), "; ".join(problems)))
        rest = [key for key in rest if key not in taken]
    for key in rest:
        found = read_key(key)
        name = None if found is None else module_name(found.name, layers_per_block)
        if found is None or name is None:
            unknown[key] = "no part of a LoRA that is known" if found is None else "no module of Stable Diffusion"
            continue
        layouts.add(found.layout)
        doubled += found.doubled
        component = found.component
        if component == "bare" and not is_text(name):
            component = "unet"
        place = parts.setdefault((component, name), {})
        if found.part in place:
            unknown[key] = f"means the same as {place[found.part]}"
        else:
            place[found.part] = key
    if doubled:
        notes.append(f"prefixes that come twice ({doubled} keys) were read once")
    layers = []
    for (component, name), keys in sorted(parts.items()):
        layer, why = _layer(component, name, keys, shapes)
        if layer is None:
            unknown.update(dict.fromkeys(keys.values(), why))
        else:
            layers.append(layer)
    without = sum(1 for one in layers if one.rank and "alpha" not in one.keys)
    if "kohya" in layouts and without and not settings:
        what = "a layer has" if without == 1 else f"{without} layers have"
        notes.append(f"{what} no alpha; it is taken to be the rank")
    layout = "+".join(sorted(layouts)) or "nothing"
    return Contents(layout, tuple(layers), words, unknown, tuple(notes), metadata, shapes, settings, tuple(problems))


def _layer(component: str, name: str, keys: Mapping[str, str], shapes: Shapes) -> tuple[Layer | None, str]:
    algorithm = algorithm_of(frozenset(keys))
    own = {part: shapes[key] for part, key in keys.items()}
    if algorithm is None:
        return None, f"the parts of its layer are not complete ({', '.join(sorted(keys))})"
    try:
        shape = shape_of(algorithm, own)
    except (IndexError, ValueError):
        return None, "its shape is none that such a part can have"
    if shape is None and not ({"diff_b", "b_norm"} & keys.keys()):
        return None, "the parts of its layer do not fit each other"
    return Layer(component, name, algorithm, dict(keys), rank_of(own), shape), ""


def _words(shapes: Shapes, metadata: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """New words in a file, keys of words that cannot be used, and the other keys."""
    words: dict[str, dict[str, str]] = {}
    unknown: dict[str, str] = {}
    single = early.words_of(shapes, metadata)
    for key in single:
        words[key] = {"": key}
    rest = []
    for key in shapes:
        if key in words:
            continue
        if not key.startswith("bundle_emb."):
            rest.append(key)
            continue
        name, _, vector = key.removeprefix("bundle_emb.").rpartition(".")
        if vector == "*":
            name, vector = name.removesuffix(".string_to_param"), ""
        if vector == "emb_params":
            vector = ""
        if name and vector in ("", "clip_l", "clip_g") and len(shapes[key]) in (1, 2):
            words.setdefault(name, {})[vector] = key
        else:
            unknown[key] = "a vector of a new word for the end of the text encoder, which sdcore has no place for"
    return words, unknown, rest
