"""What the sub-commands of ``sdcore lora`` do."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sdcore import RequestError
from sdcore.cli import kit

from .checkpoints import open_checkpoint
from .inspecting import describe
from .options import LoRA


def inspect(args: argparse.Namespace) -> None:
    """Print what a file is."""
    found = describe(args.file, model=args.model, allow_pickle=args.allow_pickle)
    if args.json:
        kit.say(kit.to_json(found))
        return
    rows = [
        ("file", f"{Path(args.file).name}, {found['size'] / 1e6:.1f} MB"),
        ("for", found["family"]),
        ("layout", found["layout"]),
        ("algorithm", ", ".join(f"{name} ({count} layers)" for name, count in found["algorithms"].items()) or "none"),
        ("type of numbers", ", ".join(found["dtypes"])),
    ]
    for group, what in found["groups"].items():
        alphas = f", alpha {_span(what['alphas'])}" if what["alphas"] else ", no alpha"
        rows.append((group, f"{what['layers']} layers, rank {_span(what['ranks'])}{alphas}"))
    if found["trigger_words"]:
        rows.append(("trigger words", ", ".join(found["trigger_words"][:12])))
    if found["words"]:
        rows.append(("new words", ", ".join(found["words"])))
    rows += [("note", note) for note in found["notes"]]
    unused = found["unused"]
    rows += [("not used", f"{key}: {why}") for key, why in list(unused.items())[:5]]
    if len(unused) > 5:
        rows.append(("not used", f"and {len(unused) - 5} more keys"))
    if found["fits"] is not None:
        rows.append(("fits the model", "yes" if found["fits"] is True else found["fits"]))
    kit.say(kit.table(rows))


def merge(args: argparse.Namespace) -> None:
    """Write a merged model."""
    from .merging import merge as merge_files

    with _bar(args, "tensor") as progress:
        done = merge_files(
            args.model, [_weighted(text) for text in args.lora], args.out, overwrite=args.overwrite, progress=progress
        )
    for name, unused in done.unused.items():
        if unused and not getattr(args, "quiet", False):
            key, why = next(iter(unused.items()))
            kit.complain(f"warning: {name}: {len(unused)} keys have no effect, such as {key} ({why})")
    if done.words and not getattr(args, "quiet", False):
        kit.complain(f"warning: new words cannot be merged into a model: {', '.join(done.words)}")
    kit.say(f"{done.path}: {done.changed} weights changed")


def extract(args: argparse.Namespace) -> None:
    """Write a LoRA of the difference of two models."""
    from .extracting import extract as extract_files
    from .saving import save_lora
    from .writing import check_free

    check_free(args.out, overwrite=args.overwrite)
    with _bar(args, "weight") as progress:
        found = extract_files(args.base, args.tuned, rank=args.rank, conv_rank=args.conv_rank, progress=progress)
    save_lora(found.lora, args.out, layout=args.layout, dtype=args.dtype, overwrite=args.overwrite)
    worst = max(found.errors, key=lambda name: found.errors[name])
    kit.say(f"{args.out}: {len(found.errors)} layers of rank {args.rank}")
    kit.say(f"{found.error:.1%} of the difference of these layers remains; most in {worst} ({found.errors[worst]:.1%})")
    if found.left_out:
        kit.say(
            f"{len(found.left_out)} other parameters differ too, {found.outside:.1%} of the whole difference, such as "
            f"{found.left_out[0]}"
        )


def convert(args: argparse.Namespace) -> None:
    """Write a LoRA in another layout."""
    from .reading import read_lora
    from .saving import save_lora

    plan = open_checkpoint(args.model).plan() if args.model else None
    lora = read_lora(args.file, allow_pickle=args.allow_pickle, plan=plan)
    save_lora(lora, args.out, layout=args.layout, dtype=args.dtype, overwrite=args.overwrite)
    if lora.unknown and not getattr(args, "quiet", False):
        key, why = next(iter(lora.unknown.items()))
        kit.complain(f"warning: {len(lora.unknown)} keys were left out, such as {key} ({why})")
    kit.say(f"{args.out}: {len(lora.layers)} layers in the layout of {args.layout}")


def _weighted(text: str) -> LoRA:
    """``"style.safetensors=0.8"`` as options."""
    path, equals, weight = text.rpartition("=")
    if not equals or Path(text).exists():
        return LoRA(path=text)
    try:
        return LoRA(path=path, weight=float(weight))
    except ValueError:
        raise RequestError(f"{text!r}: the weight {weight!r} is no number from -20 to 20") from None


@contextlib.contextmanager
def _bar(args: argparse.Namespace, unit: str) -> Iterator[Callable[[int, int], object]]:
    """A function that shows how far the work is."""
    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None and not getattr(args, "quiet", False):
            bar = kit.open_bar(total, unit)
        if bar is not None:
            bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()


def _span(numbers: list[float]) -> str:
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
