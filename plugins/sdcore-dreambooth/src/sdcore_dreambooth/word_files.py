"""The files of words that were learnt: where each goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .embedding_files import Layout, save_embedding

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS: tuple[Layout, ...] = ("a1111", "diffusers")
_ENDINGS: dict[Layout, str] = {"a1111": "", "diffusers": "-diffusers"}


def save_words(
    folder: Path,
    words: Mapping[str, Mapping[str, Tensor]],
    layouts: Iterable[Layout] = LAYOUTS,
    taken: Iterable[str] = (),
) -> Iterator[Path]:
    """Write words: "<my-cat>" as ``my-cat.safetensors`` and, in the layout of diffusers, ``my-cat-diffusers``.

    Args:
        folder: where to.
        words: word to vectors (places, width) by text encoder.
        layouts: of which each word gets a file (two for the text encoders of SDXL, in that of diffusers).
        taken: names of other files, without an ending.

    Returns:
        The files.
    """
    used = {name.lower() for name in taken}
    for word, vectors in words.items():
        stem = _free(word, used)
        for layout in layouts:
            yield from save_embedding(folder / f"{stem}{_ENDINGS[layout]}.safetensors", word, vectors, layout)


def _free(word: str, used: set[str]) -> str:
    """A word as the name of a file; "cat-2" where another word or file has the name "cat"."""
    first = re.sub(r"[^\w.+-]+", "-", word).strip("-.") or "word"
    stem, number = first, 1
    while used & (names := {f"{stem}{ending}".lower() for ending in _ENDINGS.values()}):
        number += 1
        stem = f"{first}-{number}"
    used |= names
    return stem
