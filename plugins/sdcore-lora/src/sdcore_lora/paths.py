"""Side paths: a LoRA computed beside a layer, for weights that change with the step. Only tensors.

Cost of a layer of (out, in): LoRA rank * (in + out), LoKr as much as its factors, LoHa the rank of its product
(rank squared) or a layer of full size, whichever is less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .deltas import delta, kronecker_factors

if TYPE_CHECKING:
    from torch import Tensor

Path = Callable[["Tensor"], "Tensor"]


def side_path(algorithm: str, parts: Mapping[str, Tensor], scale: float, layer: Any) -> Path | None:
    """A function from a layer's input to ``scale`` times the change of its output, or None if there is none.

    Args:
        algorithm: such as "lora".
        parts: its tensors.
        scale: factor of the change.
        layer: an ``nn.Linear`` or ``nn.Conv2d``; its weight's device and type are those of the path.
    """
    import torch

    weight = layer.weight
    if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) or getattr(layer, "groups", 1) != 1 or "dora" in parts:
        return None

    def own(tensor: Tensor) -> Tensor:
        return tensor.to(weight.device, weight.dtype)

    if algorithm == "lora" and not ("mid" in parts and weight.dim() == 2):
        return _low_rank(parts, scale, layer, own)
    if algorithm == "lokr":
        first, second = kronecker_factors({name: value.float() for name, value in parts.items()})
        factor = scale * float(parts["scalar"]) if "scalar" in parts else scale
        return _kronecker(own(factor * first), own(second), layer)
    if algorithm == "loha":
        return _hadamard(parts, scale, layer, own)
    return None


def _apply(hidden: Tensor, weight: Tensor, layer: Any, here: bool) -> Tensor:
    """A matrix or a kernel of (out, in[, h, w]) on a hidden state, with the layer's stride and padding if ``here``."""
    from torch.nn import functional

    if weight.dim() == 2:
        return functional.linear(hidden, weight)
    if here:
        return functional.conv2d(hidden, weight, None, layer.stride, layer.padding, layer.dilation)
    return functional.conv2d(hidden, weight)


def _low_rank(parts: Mapping[str, Tensor], scale: float, layer: Any, own: Callable[[Tensor], Tensor]) -> Path:
    flat = layer.weight.dim() == 2
    factor = scale * float(parts["scalar"]) if "scalar" in parts else scale
    down = parts["down"].flatten(1) if flat else _kernel(parts["down"])
    up = parts["up"].flatten(1) if flat else _kernel(parts["up"])
    middle = own(parts["mid"]) if "mid" in parts else None
    down, up = own(down), own(up.float() * factor)
    bias = own(parts["up_bias"].float() * factor) if "up_bias" in parts else None
    if bias is not None and not flat:
        bias = bias.reshape(-1, 1, 1)

    def path(hidden: Tensor) -> Tensor:
        hidden = _apply(hidden, down, layer, middle is None)
        if middle is not None:
            hidden = _apply(hidden, middle, layer, True)
        hidden = _apply(hidden, up, layer, False)
        return hidden if bias is None else hidden + bias

    return path


def _kernel(matrix: Tensor) -> Tensor:
    return matrix if matrix.dim() == 4 else matrix[:, :, None, None]


def _kronecker(first: Tensor, second: Tensor, layer: Any) -> Path:
    """``(first x second) hidden`` without making the product: two small ones."""
    import torch

    inside = first.shape[1]
    if layer.weight.dim() == 2:
        second = second.flatten(1)

        def of_linear(hidden: Tensor) -> Tensor:
            parted = hidden.reshape(*hidden.shape[:-1], inside, -1) @ second.T
            return torch.einsum("ab,...bc->...ac", first, parted).flatten(-2)

        return of_linear
    kernel = layer.weight.shape[2:]
    second = second.reshape(second.shape[0], -1, *kernel)

    def of_convolution(hidden: Tensor) -> Tensor:
        rows = hidden.shape[0]
        parted = _apply(hidden.reshape(rows * inside, -1, *hidden.shape[2:]), second, layer, True)
        return torch.einsum("ab,nbchw->nachw", first, parted.reshape(rows, inside, *parted.shape[1:])).flatten(1, 2)

    return of_convolution


def _hadamard(parts: Mapping[str, Tensor], scale: float, layer: Any, own: Callable[[Tensor], Tensor]) -> Path:
    weight = layer.weight
    outputs, inputs = weight.shape[0], math.prod(weight.shape[1:])
    rank = parts["hada_w1_b"].shape[0] * parts["hada_w2_b"].shape[0]
    if "hada_t1" in parts or "scalar" in parts or rank * (outputs + inputs) >= outputs * inputs:
        whole = own(scale * delta("loha", parts, weight))
        return lambda hidden: _apply(hidden, whole, layer, True)
    # A product of two matrices of ranks r and s, element by element, is one matrix of rank r * s.
    a = [parts[f"hada_w{n}_a"].float() for n in "12"]
    b = [parts[f"hada_w{n}_b"].float() for n in "12"]
    up = own(scale * (a[0][:, :, None] * a[1][:, None, :]).flatten(1))
    down = own((b[0][:, None, :] * b[1][None, :, :]).flatten(0, 1))
    if weight.dim() == 4:
        down, up = down.reshape(-1, *weight.shape[1:]), up[:, :, None, None]
    return lambda hidden: _apply(_apply(hidden, down, layer, True), up, layer, False)
