"""New words inside the file of a LoRA: the layout of AUTOMATIC1111 and OneTrainer, which sdcore-lora reads too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.files import write_atomic

from .embedding_files import KINDS
from .packing import packed

if TYPE_CHECKING:
    from torch import Tensor


def bundle(path: Path, words: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Add words to a file, as ``bundle_emb.WORD.KIND``; those that it has are left.

    Args:
        path: of the LoRA.
        words: word to vectors (places, width) by text encoder.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = file.metadata()
    new = dict(named(words))
    if new.keys() <= tensors.keys():
        return
    write_atomic(path, packed({**new, **tensors}, about), overwrite=True)


def named(words: Mapping[str, Mapping[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """The tensors of words with the names that they have in a LoRA's file."""
    found = []
    for word, vectors in words.items():
        for encoder, value in vectors.items():
            kind = KINDS[encoder] if len(vectors) > 1 else "string_to_param.*"
            found.append((f"bundle_emb.{word}.{kind}", value.detach().float().cpu().contiguous()))
    return found
