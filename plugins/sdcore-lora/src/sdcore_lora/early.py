"""The early layout of cloneofsimo/lora: numbered pairs and embeddings of new words, described by the metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

Shapes = Mapping[str, tuple[int, ...]]
_PAIR = re.compile(r"^(unet|text_encoder):(\d+):(up|down)$")
_EMBEDDING = "<embed>"

# Within a transformer block its version of diffusers had attn1, ff, attn2; today it has attn1, attn2, ff.
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_RESNET = ("conv1", "time_emb_proj", "conv2", "conv_shortcut")
_TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")
_DEFAULT = {"unet": ["CrossAttention", "Attention", "GEGLU"], "text_encoder": ["CLIPAttention"]}


def is_early(keys: Iterable[str]) -> bool:
    """Whether a file is in this layout."""
    return any(_PAIR.match(key) for key in keys)


def words_of(shapes: Shapes, metadata: Mapping[str, str]) -> list[str]:
    """Keys that are embeddings of new words, such as ``<s1>``."""
    return [key for key in shapes if metadata.get(key) == _EMBEDDING or (key[:1] == "<" and key[-1:] == ">")]


def assign(
    shapes: Shapes, metadata: Mapping[str, str], modules: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> tuple[dict[str, tuple[str, str, str]], list[str]]:
    """Which module each pair belongs to. The file only numbers them, in the order of the model that it was made for.

    Args:
        shapes: of the file's tensors.
        metadata: of the file; names the kinds of modules that were trained.
        modules: by component, the modules of the model in their order, with the shapes of their weights.

    Returns:
        Key to (component, module, part), and what is wrong: one line for each component that does not fit.
    """
    found: dict[str, tuple[str, str, str]] = {}
    problems = []
    for component in ("unet", "text_encoder"):
        pairs = [key for key in shapes if key.startswith(component + ":") and _PAIR.match(key)]
        if not pairs:
            continue
        owner = component if component in modules else "text_encoder_2"
        count = 1 + max(int(key.split(":")[1]) for key in pairs)
        classes = _classes(metadata.get(component), _DEFAULT[component])
        for order in _orders(component, list(modules.get(owner, {})), classes):
            if len(order) == count and all(_fits(key, order, modules[owner], shapes) for key in pairs):
                for key in pairs:
                    _, number, part = key.split(":")
                    found[key] = (owner, order[int(number)], part)
                break
        else:
            problems.append(f"its {count} numbered pairs for {component} do not fit the modules of this model")
    return found, problems


def _classes(text: str | None, default: Sequence[str]) -> Sequence[str]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return default
    return [str(item) for item in found] if isinstance(found, list) else default


def _orders(component: str, modules: Sequence[str], classes: Sequence[str]) -> Iterable[list[str]]:
    """The orders in which versions of diffusers listed the modules."""
    if component == "text_encoder":
        layers = _parents(sorted(modules, key=_natural), r"(.+\.layers\.\d+)\.")
        yield [f"{layer}.self_attn.{name}" for layer in layers for name in _TEXT]
        return
    # The middle block was registered last; in every block the attentions come before the resnets.
    modules = sorted(modules, key=lambda name: (name.startswith("mid_block."), _natural(name)))
    attention = _ATTENTION if {"CrossAttention", "Attention"} & set(classes) else ()
    geglu = "GEGLU" in classes
    for between in (True, False):
        order: list[str] = []
        for outer in _parents(modules, r"((?:down_blocks|up_blocks)\.\d+|mid_block)\."):
            inside = [name for name in modules if name.startswith(outer + ".")]
            for block in _parents(inside, r"(.+\.transformer_blocks\.\d+)\."):
                first, second = ([f"{block}.attn{number}.{part}" for part in attention] for number in "12")
                inner = [f"{block}.ff.net.0.proj"] if geglu else []
                order += [*first, *inner, *second] if between else [*first, *second, *inner]
            if "ResnetBlock2D" in classes:
                resnets = _parents(inside, r"(.+\.resnets\.\d+)\.")
                order += [name for one in resnets for part in _RESNET if (name := f"{one}.{part}") in inside]
        yield order


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10: files list their tensors in another order than models."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _parents(names: Iterable[str], pattern: str) -> list[str]:
    return list(dict.fromkeys(found[1] for name in names if (found := re.match(pattern, name))))


def _fits(key: str, order: Sequence[str], modules: Mapping[str, tuple[int, ...]], shapes: Shapes) -> bool:
    _, number, part = key.split(":")
    weight = modules[order[int(number)]]
    if part == "up":
        return shapes[key][0] == weight[0]
    return shapes[key][1:] == weight[1:]
