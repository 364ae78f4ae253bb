"""A ControlNet for the embedded model: found through the entry-point group "sdcore.controlnets"."""

from __future__ import annotations

from pathlib import Path

__all__ = ["model_folder"]


def model_folder() -> Path:
    """The net in diffusers' folder layout: ``ControlNet(model="mini-canny")`` takes it from here."""
    return Path(__file__).parent / "data"
