"""sdcore's embedded model for pictures of 128x128, as a package with the entry-point group "sdcore.models"."""

from __future__ import annotations

from pathlib import Path

__all__ = ["model_folder"]


def model_folder() -> Path:
    """The model in diffusers' folder layout."""
    return Path(__file__).parent / "data"
