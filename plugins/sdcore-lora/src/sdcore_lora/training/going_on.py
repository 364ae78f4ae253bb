"""A LoRA file as the first weights of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sdcore_lora.contents import Layer

if TYPE_CHECKING:
    from sdcore_lora.binding import Plan
    from sdcore_lora.reading import LayerWeights

    from .targets import Target

SHOWN = 3


def problems_of(path: str, plan: Plan, targets: Sequence[Target], dora: bool) -> Iterator[str]:
    """Why a training cannot go on from a file, from its header alone.

    Args:
        path: the file or folder.
        plan: the modules of the model.
        targets: what is to be trained.
        dora: whether magnitudes are trained.
    """
    from sdcore import ModelError
    from sdcore_lora.library import read_entry

    try:
        entry = read_entry(path, plan)
    except ModelError as error:
        yield f"resume_from: {error}"
        return
    if entry.binding.problem:
        yield f"resume_from: {entry.binding.problem}"
        return
    wanted = {(target.component, target.module): target.sizes.rank for target in targets}
    bound = [(one.component, one.layer) for one in entry.binding.bound]
    kinds = {layer.algorithm for _, layer in bound if layer.algorithm != "lora"}
    if kinds or any(part in layer.keys for _, layer in bound for part in ("mid", "scalar", "up_bias")):
        what = ", ".join(sorted(kinds)) or "Tucker's form, a scalar or a bias"
        yield f"resume_from: {path} holds {what}; training goes on from LoRA, LoCon and DoRA"
        return
    magnitudes = [(layer, entry.contents.shapes[layer.keys["dora"]]) for _, layer in bound if layer.dora]
    if any(layer.shape and shape != (1, 1) and max(shape) != layer.shape[0] for layer, shape in magnitudes):
        yield f"resume_from: {path} is a DoRA with one magnitude for each input (early LyCORIS), which cannot go on"
        return
    if entry.contents.words:
        words = ", ".join(entry.contents.words)
        yield f"resume_from: {path} brings new words ({words}), which this training would lose"
    yield from _missing(path, bound, wanted)
    yield from _ranks(path, bound, wanted)
    if not dora and any(layer.dora for _, layer in bound):
        yield f"resume_from: {path} is a DoRA; set dora = true"


def start_of(path: str, plan: Plan) -> Mapping[str, Mapping[str, LayerWeights]]:
    """The changes of a file, by component and module.

    Raises:
        ModelError: it cannot be read.
    """
    from sdcore_lora.changes import changes_of
    from sdcore_lora.library import read_entry
    from sdcore_lora.reading import LayerWeights

    found: dict[str, dict[str, LayerWeights]] = {}
    for change in changes_of(read_entry(path, plan)):
        layer = change.bound.layer
        found.setdefault(change.bound.component, {})[layer.module] = LayerWeights("lora", change.parts, change.scale)
    return found


def digests(path: str) -> list[str]:
    """SHA-256 of everything that belongs to a LoRA."""
    from sdcore.models.hashes import of_file
    from sdcore_lora.files import open_lora

    return [of_file(file) for file in open_lora(path).files]


def _missing(path: str, bound: Iterable[tuple[str, Layer]], wanted: Mapping[tuple[str, str], int]) -> Iterator[str]:
    lost = [f"{component}.{layer.module}" for component, layer in bound if (component, layer.module) not in wanted]
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        yield (
            f"resume_from: {path} changes layers that are not to be trained: {', '.join(lost[:SHOWN])}{more}; set "
            "targets (and text_encoder) so that they are"
        )


def _ranks(path: str, bound: Iterable[tuple[str, Layer]], wanted: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for component, layer in bound:
        rank = wanted.get((component, layer.module), layer.rank)
        if rank != layer.rank:
            yield (
                f"resume_from: {path} has rank {layer.rank} in {component}.{layer.module}, and rank {rank} is asked "
                "for; set rank, conv_rank or text_encoder_rank to that of the file (sdcore lora inspect shows it)"
            )
            return
