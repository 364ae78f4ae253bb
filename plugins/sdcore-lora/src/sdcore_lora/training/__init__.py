"""Training of LoRA, LoCon and DoRA: the training plugin ``lora`` of sdcore-train. Needs the extra ``[train]``."""

from __future__ import annotations

from .options import TrainLoRA

__all__ = ["TrainLoRA"]
