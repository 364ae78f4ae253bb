"""LoRAs merged into the files of a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import ModelError, RequestError

from . import blocks
from .changes import changes_of
from .checkpoints import Checkpoint, open_checkpoint, part_of
from .library import Entry, read_entry
from .options import LoRA
from .writing import beside, write_weights

if TYPE_CHECKING:
    from torch import Tensor

Deltas = Mapping[tuple[str, str], list[tuple[float, Callable[["Tensor"], "Tensor"]]]]
Progress = Callable[[int, int], object]
"""Told (tensors done, tensors in all)."""


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        path: the new model.
        changed: how many parameters were changed.
        unused: keys without effect, by file name, with the reason.
        words: new words of the files, which a model's files have no place for.
    """

    path: Path
    changed: int
    unused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def merge(
    model: str | Path,
    loras: Iterable[LoRA | str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Write a model with LoRAs in its weights.

    Args:
        model: a diffusers folder, a .safetensors file in the original layout, or the name of an installed model.
        loras: options, or paths for weight 1. Block weights count; weights that change over the steps cannot.
        out: a folder if the model is one, else a file. Written beside and renamed, so that it is whole or not there.
        overwrite: replace a file that is there.
        progress: told how far it is.

    Raises:
        RequestError: a LoRA is for some steps or branches only.
        ModelError: a file cannot be read, or a LoRA is for another model.
        OutputError: the result cannot be written.
    """
    used = [item if isinstance(item, LoRA) else LoRA(path=str(item)) for item in loras]
    if not used:
        raise RequestError("no LoRA was given to merge")
    for one in used:
        if not one.constant:
            raise RequestError(f"{one.path}: its weight depends on the step or the branch, and merged weights cannot")
    source = open_checkpoint(model)
    plan = source.plan()
    entries = [(one, read_entry(one.path, plan, one.allow_pickle)) for one in used]
    for _, entry in entries:
        if entry.binding.problem:
            raise ModelError(entry.binding.problem)
    entries.sort(key=lambda pair: (pair[1].digest(), pair[0].model_dump_json(exclude={"path"})))  # as in a run
    deltas = _deltas(entries)
    with beside(out, overwrite=overwrite) as temporary:
        _write(source, deltas, temporary, progress or (lambda done, total: None))
    return Merged(
        Path(out),
        len(deltas),
        {Path(one.path).name: entry.binding.unused for one, entry in entries},
        tuple(word for _, entry in entries for word in entry.contents.words),
    )


def _deltas(entries: Iterable[tuple[LoRA, Entry]]) -> Deltas:
    """For each parameter, the changes and their strengths."""
    found: dict[tuple[str, str], list[tuple[float, Callable[[Tensor], Tensor]]]] = {}
    for used, entry in entries:
        for change in changes_of(entry):
            bound = change.bound
            weight = used.at(0.0) if bound.component == "unet" else used.for_text
            factor = blocks.factor(used.blocks, bound.component, bound.layer.module, entry.plan.layers_per_block)
            for parameter, delta in change.parameters() if weight * factor else ():
                found.setdefault((bound.component, parameter), []).append((factor * weight, delta))
    return found


def _write(source: Checkpoint, deltas: Deltas, out: Path, progress: Progress) -> None:
    changed = {
        file: {key: places for key, places in keys.items() if any((p.component, p.parameter) in deltas for p in places)}
        for file, keys in source.places.items()
    }
    total, done = sum(len(keys) for keys in changed.values()), 0
    if source.path.is_dir():
        rewritten = {file for file, keys in changed.items() if keys}
        folders = {file.parent for file in rewritten}

        def skip(folder: str, names: list[str]) -> list[str]:
            # Other copies of the weights (fp16, pickles) would be those from before.
            here = Path(folder)
            kept = {file.name for file in source.places if file.parent == here and file not in rewritten}
            weights = (".safetensors", ".bin", ".ckpt", ".msgpack")
            return [n for n in names if here in folders and n.endswith(weights) and n not in kept]

        shutil.copytree(source.path, out, ignore=skip)
    if not total:
        raise RequestError("nothing would be changed: all weights are 0")
    for file, keys in changed.items():
        if keys:
            target = out / file.relative_to(source.path) if source.path.is_dir() else out
            before = done
            for done in _write_file(file, keys, deltas, target, before):
                progress(done, total)


def _write_file(file: Path, keys: Mapping[str, Any], deltas: Deltas, target: Path, before: int) -> Iterator[int]:
    """Write a file with the changes of some of its tensors; counts them from ``before`` on."""
    from sdcore.models import read_weights

    weights, metadata = read_weights(file)
    for number, (key, places) in enumerate(keys.items(), start=1):
        tensor = weights[key].clone()
        for place in places:
            part = part_of(tensor, place)
            total = original = part.float()
            for strength, delta in deltas.get((place.component, place.parameter), ()):
                total = total + strength * delta(original)
            part.copy_(total)
        weights[key] = tensor
        yield before + number
    write_weights(weights, target, metadata)
