"""New words that a LoRA file brings: textual inversion (arXiv 2208.01618) trained together with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .contents import Contents

if TYPE_CHECKING:
    from torch import Tensor

PLACES: Mapping[str, Sequence[str]] = {"clip_l": ("text_encoder",), "clip_g": ("text_encoder_2",)}


def places(contents: Contents, widths: Mapping[str, int]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Where the vectors of new words belong.

    Args:
        contents: of the file.
        widths: of the model's text encoders, by component.

    Returns:
        Word to component to key; and keys that fit nowhere, with the reason.
    """
    found: dict[str, dict[str, str]] = {}
    unused: dict[str, str] = {}
    for word, keys in contents.words.items():
        for kind, key in keys.items():
            width = contents.shapes[key][-1]
            able = [name for name in PLACES.get(kind, tuple(widths)) if widths.get(name) == width]
            if able:
                found.setdefault(word, {})[able[0]] = key
            else:
                unused[key] = (
                    f"its vectors are {width} wide, and the text encoders {', '.join(map(str, widths.values()))}"
                )
    return found, unused


def vectors(
    placed: Mapping[str, Mapping[str, str]], tensors: Mapping[str, Tensor], components: Sequence[str]
) -> Iterator[tuple[str, tuple[Tensor | None, ...]]]:
    """Each word with its vectors (places, width) for every text encoder, None where it has none."""
    for word, keys in placed.items():
        yield (
            word,
            tuple(
                tensors[keys[name]].reshape(-1, tensors[keys[name]].shape[-1]) if name in keys else None
                for name in components
            ),
        )
