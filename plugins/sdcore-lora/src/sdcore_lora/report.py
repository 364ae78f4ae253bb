"""What is told about a file: warnings while it is used, and a summary for the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import new_words
from .families import family_of
from .library import Entry
from .options import LoRA

SHOWN = 5
KEPT = 50


def unused_of(used: LoRA, entry: Entry, widths: Mapping[str, int]) -> dict[str, str]:
    """Every key of a file that has no effect, and why."""
    found = dict(entry.binding.unused)
    _, strange = new_words.places(entry.contents, widths)
    found.update(strange)
    if not used.words:
        keys = [key for of_word in entry.contents.words.values() for key in of_word.values()]
        found.update(dict.fromkeys(keys, "words=False"))
    return found


def warnings(used: LoRA, entry: Entry, widths: Mapping[str, int]) -> Iterator[str]:
    """What the user should know, a line each."""
    name = Path(used.path).name
    unused = unused_of(used, entry, widths) if used.words else dict(entry.binding.unused)
    if unused:
        shown = "; ".join(f"{key} ({why})" for key, why in list(unused.items())[:SHOWN])
        more = f"; and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        yield f"{name}: {len(unused)} of {len(entry.contents.shapes)} keys have no effect: {shown}{more}"
    for note in entry.contents.notes:
        yield f"{name}: {note}"
    text = any(bound.component != "unet" for bound in entry.binding.bound)
    if used.branches is not None and used.text_encoder_weight is None and text:
        yield (
            f"{name}: its text encoder layers are left out, as all branches share the text encoders; "
            "text_encoder_weight sets a weight for them"
        )


def summary(used: LoRA, entry: Entry, widths: Mapping[str, int]) -> dict[str, Any]:
    """What goes into the record: JSON values, no path."""
    bound = entry.binding.bound
    unused = unused_of(used, entry, widths)
    return {
        "name": Path(used.path).name,
        "family": family_of(entry.contents),
        "layout": entry.contents.layout,
        "algorithms": dict(sorted(Counter(_kind(one.layer) for one in bound).items())),
        "layers": dict(sorted(Counter(one.component for one in bound).items())),
        "words": sorted(entry.contents.words) if used.words else [],
        "unused": dict(list(unused.items())[:KEPT]),
        "unused_count": len(unused),
    }


def _kind(layer: Any) -> str:
    return f"{layer.algorithm} with dora" if layer.dora else str(layer.algorithm)
