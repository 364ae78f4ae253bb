"""What a LoRA file is, for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .binding import bind
from .checkpoints import open_checkpoint
from .contents import Contents, Layer, read_contents
from .families import family_of
from .files import open_lora, read_tensors
from .scales import scale_of

_GROUPS = (
    ("attention", (".to_q", ".to_k", ".to_v", ".to_out.0", ".q_proj", ".k_proj", ".v_proj", ".out_proj")),
    ("feed-forward", (".ff.net.0.proj", ".ff.net.2", ".fc1", ".fc2")),
    ("projections", (".proj_in", ".proj_out")),
    ("convolutions", (".conv1", ".conv2", ".conv_shortcut", ".conv", "conv_in", "conv_out")),
)
_NAMES = {"unet": "U-Net", "text_encoder": "text encoder", "text_encoder_2": "text encoder 2", "bare": "text encoder"}


def describe(path: str | Path, *, model: str | Path | None = None, allow_pickle: bool = False) -> dict[str, Any]:
    """What a file is, as JSON values.

    Args:
        path: the LoRA.
        model: a model; then ``fits`` is True, or says why not.
        allow_pickle: read .bin and .pt files too.

    Raises:
        ModelError: a file cannot be read.
    """
    opened = open_lora(path, allow_pickle)
    plan = open_checkpoint(model).plan() if model is not None else None
    contents = read_contents(
        opened.shapes,
        opened.metadata,
        opened.settings,
        layers_per_block=plan.layers_per_block if plan else 2,
        modules=plan.modules if plan else None,
    )
    tensors = read_tensors(opened, str(path))
    binding = bind(contents, plan, str(path)) if plan else None
    groups: dict[str, list[Layer]] = {}
    for layer in contents.layers:
        groups.setdefault(f"{_NAMES[layer.component]}: {_group(layer.module)}", []).append(layer)
    return {
        "size": sum(file.stat().st_size for file in opened.files),
        "family": family_of(contents),
        "layout": contents.layout,
        "algorithms": dict(Counter(_kind(layer) for layer in contents.layers)),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()}),
        "groups": {
            name: {
                "layers": len(layers),
                "ranks": sorted({layer.rank for layer in layers if layer.rank}),
                "alphas": sorted(
                    {alpha for layer in layers if (alpha := _alpha(layer, contents, tensors)) is not None}
                ),
            }
            for name, layers in sorted(groups.items())
        },
        "targets": sorted({f"{layer.component}.{layer.module}" for layer in contents.layers}),
        "settings": {name: dict(values) for name, values in contents.settings.items()},
        "trigger_words": trigger_words(contents.metadata),
        "words": sorted(contents.words),
        "notes": list(contents.notes),
        "unused": dict(binding.unused if binding else contents.unknown),
        "metadata": {key: value for key, value in contents.metadata.items() if len(value) < 2000},
        "fits": None if binding is None else binding.problem or True,
    }


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """Words that the trainer says the LoRA answers to: those given, then tags of the captions, the commonest first."""
    given = [word.strip() for word in metadata.get("modelspec.trigger_phrase", "").split(",")]
    counts: Counter[str] = Counter()
    try:
        found = json.loads(metadata.get("ss_tag_frequency", "{}"))
        for tags in found.values():
            counts.update({str(tag).strip(): int(count) for tag, count in tags.items()})
    except (ValueError, AttributeError, TypeError):
        counts.clear()
    return list(dict.fromkeys(word for word in [*given, *(tag for tag, _ in counts.most_common())] if word))


def _alpha(layer: Layer, contents: Contents, tensors: Mapping[str, Any]) -> float | None:
    """A layer's alpha, from the file or from peft's settings."""
    if "alpha" in layer.keys:
        return float(tensors[layer.keys["alpha"]])
    settings = contents.settings.get(layer.component, contents.settings.get("", {}))
    if not settings or not layer.rank:
        return None
    shapes = {part: contents.shapes[key] for part, key in layer.keys.items()}
    return scale_of(layer.algorithm, shapes, None, settings, layer.module) * layer.rank


def _group(module: str) -> str:
    return next((name for name, ends in _GROUPS if module.endswith(ends)), "other")


def _kind(layer: Layer) -> str:
    name = "locon" if layer.algorithm == "lora" and layer.shape and len(layer.shape) == 4 else layer.algorithm
    return f"{name} with dora" if layer.dora else name
