"""A small latent diffusion model as a package: sdcore finds it through the entry-point group "sdcore.models"."""

from __future__ import annotations

from pathlib import Path

__all__ = ["model_folder"]


def model_folder() -> Path:
    """The model in diffusers' folder layout."""
    return Path(__file__).parent / "data"
