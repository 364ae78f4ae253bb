"""ControlNet and T2I-Adapter for sdcore.

    engine.generate("a red apple", use=[ControlNet(model="canny-folder", image="photo.png", preprocess="canny")])

Importing this imports neither torch nor diffusers.
"""

from __future__ import annotations

from .options import ControlNet
from .plugin import ControlNetPlugin
from .preprocess import preprocess_image
from .training.options import CannyConsistency, TrainControlNet, TrainT2IAdapter

__all__ = [
    "CannyConsistency",
    "ControlNet",
    "ControlNetPlugin",
    "TrainControlNet",
    "TrainT2IAdapter",
    "preprocess_image",
]
