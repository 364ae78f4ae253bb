"""Training of ControlNets and T2I-Adapters: training plugins of sdcore-train. Needs the extra ``[train]``."""

from __future__ import annotations

from .options import CannyConsistency, TrainControlNet, TrainT2IAdapter

__all__ = ["CannyConsistency", "TrainControlNet", "TrainT2IAdapter"]
