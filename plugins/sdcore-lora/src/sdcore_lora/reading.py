"""LoRA files in memory, in one form whatever the layout was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore import ModelError

from .contents import read_contents
from .families import family_of
from .files import open_lora, read_tensors
from .names import is_text
from .scales import scale_of

if TYPE_CHECKING:
    from torch import Tensor

    from .binding import Plan


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The change of one module: its algorithm, its tensors by part ("down", "hada_w1_a", ...), and alpha / rank."""

    algorithm: str
    parts: Mapping[str, Tensor]
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class LoRAWeights:
    """A LoRA.

    Attributes:
        layers: (component, name of the module in diffusers, without "text_model.") to its change.
        words: new words, each with vectors by "clip_l", "clip_g" or "".
        metadata: of the file.
        unknown: keys of the file that were not understood, with the reason.
        family: for which it is, in words.
    """

    layers: Mapping[tuple[str, str], LayerWeights]
    words: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    family: str = ""


def read_lora(
    path: str | Path, *, allow_pickle: bool = False, layers_per_block: int = 2, plan: Plan | None = None
) -> LoRAWeights:
    """Read a LoRA of any layout.

    Args:
        path: the file, or a folder of peft.
        allow_pickle: read .bin and .pt files too.
        layers_per_block: of the U-Net that it is for; 2 in all published models.
        plan: the modules of the model (`open_checkpoint(...).plan()`), which the early layout cannot be read without.

    Raises:
        ModelError: it cannot be read, or holds no LoRA.
    """
    opened = open_lora(path, allow_pickle)
    contents = read_contents(
        opened.shapes,
        opened.metadata,
        opened.settings,
        layers_per_block=plan.layers_per_block if plan else layers_per_block,
        modules=plan.modules if plan else None,
    )
    if not contents.layers and not contents.words:
        key, why = next(iter(contents.unknown.items()), ("", "it is empty"))
        raise ModelError(f"{path}: holds no LoRA that can be read: {key}: {why}")
    tensors = read_tensors(opened, str(path))
    layers = {}
    for layer in contents.layers:
        parts = {part: tensors[key] for part, key in layer.keys.items()}
        alpha = float(parts.pop("alpha")) if "alpha" in parts else None
        own = contents.settings.get(layer.component, contents.settings.get("", {})) if alpha is None else {}
        shapes = {part: contents.shapes[key] for part, key in layer.keys.items()}
        component = layer.component if layer.component != "bare" else _text_component(layer.module)
        scale = scale_of(layer.algorithm, shapes, alpha, own, layer.module)
        layers[component, layer.module] = LayerWeights(layer.algorithm, parts, scale)
    words = {word: {kind: tensors[key] for kind, key in keys.items()} for word, keys in contents.words.items()}
    return LoRAWeights(layers, words, contents.metadata, contents.unknown, family_of(contents))


def _text_component(module: str) -> str:
    return "text_encoder" if is_text(module) else "unet"
