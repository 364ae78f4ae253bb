"""Preprocessors: from a picture to what a control wants to see (edges, depth, a pose, ...).

``preprocess_image("canny", "photo.png", low=50)`` from Python, ``sdcore preprocess canny photo.png`` on the
command line, ``register_all(registry)`` in a plugin's hook ``register``. Importing this is cheap: arrays and
networks are imported by what runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api import preprocess_image
from .catalogue import ALIASES, canonical, preprocessors

if TYPE_CHECKING:
    from sdcore import Registry

__all__ = ["ALIASES", "canonical", "preprocess_image", "preprocessors", "register_all"]


def register_all(registry: Registry) -> None:
    """Add every preprocessor, and the command ``sdcore preprocess``, which knows those of other plugins too."""
    from .command import command

    for name, preprocessor in preprocessors().items():
        registry.add("preprocessor", name, preprocessor)
    registry.add("cli_command", "preprocess", command(registry))
