"""MobileNetV2 as nsfwjs trained it: the Keras graph written with torch's functions. Pure: imports no sdcore.

The layout is that of Keras, not of torchvision: stride-2 convolutions are padded by one at the right and the bottom
only, batch norms have epsilon 0.001, and the head has three dense layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 224
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")
STRIDES = {1: 2, 3: 2, 6: 2, 13: 2}
"""The inverted residual blocks that halve the size; all others keep it."""
FEATURES = 128
"""Width of the layer before the last."""

Weights = Mapping[str, "Tensor"]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights from a file that ``sdcore_safety.convert`` wrote: ``scale * value + min``, as TensorFlow.js reads them.

    Returns:
        Name to float32 tensor, with kernels as torch has them: (out, in, height, width) and (out, in).

    Raises:
        OSError, ValueError, KeyError: the file is missing, damaged or not one of these.
    """
    import torch
    from safetensors.torch import load_file

    stored = load_file(path)
    found = {}
    for name, value in stored.items():
        if value.dtype == torch.uint8:
            scale, low = stored[f"{name}:range"].tolist()
            found[name] = (value.double() * scale + low).float()
    return found


def to_input(pixels: Tensor) -> Tensor:
    """(batch, 3, height, width) in [0, 1] at the network's size: bilinear with aligned corners, as nsfwjs does."""
    from torch.nn.functional import interpolate

    if tuple(pixels.shape[-2:]) == (SIZE, SIZE):
        return pixels
    return interpolate(pixels, (SIZE, SIZE), mode="bilinear", align_corners=True)


def features(pixels: Tensor, weights: Weights) -> Tensor:
    """What the layer before the last makes of pictures: (batch, 128), not negative.

    Args:
        pixels: (batch, 3, 224, 224) in [0, 1]; see :func:`to_input`.
        weights: of :func:`read_weights`.
    """
    from torch.nn.functional import avg_pool2d, linear, relu

    x = _conv(pixels, weights, "Conv1", "bn_Conv1", stride=2)
    x = _block(x, weights, "expanded_conv", 1, expand=False)
    for number in range(1, 17):
        x = _block(x, weights, f"block_{number}", STRIDES.get(number, 1))
    x = _conv(x, weights, "Conv_1", "Conv_1_bn")
    x = avg_pool2d(x, 7).flatten(1)
    for name in ("dense_1", "dense_2"):
        x = relu(linear(x, weights[f"{name}/kernel"], weights[f"{name}/bias"]))
    return x


def probabilities(found: Tensor, weights: Weights) -> Tensor:
    """(batch, 5) in the order of :data:`CLASSES`, summing to one, from :func:`features`."""
    from torch.nn.functional import linear

    return linear(found, weights["dense_3/kernel"], weights["dense_3/bias"]).softmax(dim=1)


def _block(x: Tensor, weights: Weights, name: str, stride: int, expand: bool = True) -> Tensor:
    """An inverted residual (arXiv 1801.04381, section 3.3)."""
    y = _conv(x, weights, f"{name}_expand", f"{name}_expand_BN") if expand else x
    y = _conv(y, weights, f"{name}_depthwise", f"{name}_depthwise_BN", stride=stride)
    y = _conv(y, weights, f"{name}_project", f"{name}_project_BN", relu6=False)
    return x + y if stride == 1 and x.shape == y.shape else y


def _conv(x: Tensor, weights: Weights, name: str, norm: str, stride: int = 1, relu6: bool = True) -> Tensor:
    from torch.nn import functional

    depthwise = f"{name}/depthwise_kernel"
    kernel = weights[depthwise] if depthwise in weights else weights[f"{name}/kernel"]
    padding = (kernel.shape[-1] - 1) // 2
    if stride == 2:  # Keras pads the right and the bottom only
        x, padding = functional.pad(x, (0, 1, 0, 1)), 0
    groups = x.shape[1] if depthwise in weights else 1
    x = functional.conv2d(x, kernel, stride=stride, padding=padding, groups=groups)
    x = functional.batch_norm(
        x,
        weights[f"{norm}/moving_mean"],
        weights[f"{norm}/moving_variance"],
        weights[f"{norm}/gamma"],
        weights[f"{norm}/beta"],
        eps=1e-3,
    )
    return functional.relu6(x) if relu6 else x
