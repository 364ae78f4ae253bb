"""Teach a Stable Diffusion model a subject from a few pictures: DreamBooth, textual inversion, pivotal tuning."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .embeddings import TextualInversion, TextualInversionPlugin
from .inversion_options import LearnWord
from .options import DreamBooth
from .plugin import DreamBoothPlugin
from .subjects import Subject

if TYPE_CHECKING:
    from .embedding_files import Embedding as Embedding
    from .embedding_files import read_embedding as read_embedding
    from .embedding_files import save_embedding as save_embedding
    from .pivotal import Pivotal as Pivotal

_HOME = {
    "Embedding": "embedding_files",
    "Pivotal": "pivotal",
    "read_embedding": "embedding_files",
    "save_embedding": "embedding_files",
}

__all__ = [
    "DreamBooth",
    "DreamBoothPlugin",
    "Embedding",
    "LearnWord",
    "Pivotal",
    "Subject",
    "TextualInversion",
    "TextualInversionPlugin",
    "read_embedding",
    "save_embedding",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'sdcore_dreambooth' has no attribute {name!r}")
