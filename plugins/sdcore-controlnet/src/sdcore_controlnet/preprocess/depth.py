"""Depth, near white: through networks of transformers (MiDaS, DPT, Depth-Anything, ZoeDepth, GLPN, DepthPro, ...)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from sdcore import ModelError

from .arrays import Pixels, Plane, at_resolution, to_8_bits
from .options import Depth

_DISTANCE = ("glpn", "zoedepth", "depth_pro", "prompt_depth_anything")
"""Families of networks that give distances; others give inverse depth, unless their config says "metric"."""


def to_unit(values: Plane, cut: float = 0.0) -> Plane:
    """Inverse depth brought to 0 (far) to 1 (near); all 0 if there is no depth in it.

    Args:
        values: (height, width), larger is nearer.
        cut: percent of pixels at either end that are cut off.
    """
    low, high = (float(found) for found in np.percentile(values, [cut, 100 - cut]))
    if not high > low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def inverse_of(distance: Plane) -> Plane:
    """Inverse depth of distances, which are taken for at least a thousandth of the largest."""
    least = max(float(distance.max()) * 1e-3, 1e-6)
    return np.asarray(1 / np.maximum(distance, least), np.float32)


def gives_distance(config: Any) -> bool:
    """Whether a network's config says that larger values are farther."""
    return config.model_type in _DISTANCE or getattr(config, "depth_estimation_type", "relative") == "metric"


def estimated(pixels: Pixels, options: Depth) -> Plane:
    """Depth of a picture (height, width, 3) from 0 (far) to 1 (near), (height, width).

    Raises:
        ModelError: no network is named, it cannot be loaded, or it gives values that are not finite.
    """
    from .networks import load

    if options.model is None:
        raise ModelError(
            "depth needs a network: set `model` (--model) to a folder with its config.json and safetensors weights, "
            "or to a hub id such as depth-anything/Depth-Anything-V2-Small-hf"
        )
    network = load(options.model, "AutoModelForDepthEstimation", "depth network", options.device)
    values = np.asarray(network(pixels).predicted_depth[0].float().cpu().numpy(), np.float32)
    if not np.isfinite(values).all():
        raise ModelError(f"{options.model}: the network gives values that are not finite; are its weights damaged?")
    auto = gives_distance(network.config)
    if options.predicts == "distance" or (options.predicts == "auto" and auto):
        values = inverse_of(values)
    height, width = pixels.shape[:2]
    large = np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    return to_unit(large, options.cut)


def run(image: Image.Image, options: Depth) -> Image.Image:
    """The preprocessor ``depth``."""
    return at_resolution(image, options.resolution, lambda small: to_8_bits(255 * estimated(small, options)))
