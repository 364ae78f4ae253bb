"""The changes themselves: from the parts of a LoRA and its relatives to the change of a weight. Only tensors.

LoRA: arXiv 2106.09685. LoCon, LoHa, LoKr: LyCORIS, arXiv 2309.14859. DoRA: arXiv 2402.09353.
A weight is (out, in) or (out, in, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Parts = Mapping[str, "Tensor"]
ALGORITHMS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "lora": (frozenset({"down", "up"}), frozenset({"mid", "up_bias"})),
    "loha": (frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}), frozenset({"hada_t1", "hada_t2"})),
    "lokr": (
        frozenset(),
        frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
    ),
    "embedding": (frozenset({"embedding_down", "embedding_up"}), frozenset()),
    "full": (frozenset(), frozenset({"diff", "diff_b"})),
    "norm": (frozenset(), frozenset({"w_norm", "b_norm"})),
}
"""Parts that each algorithm needs, and parts that it may have besides alpha, dora and scalar."""
_BIAS = {"lora": "up_bias", "full": "diff_b", "norm": "b_norm"}
_WHOLE = {"full": "diff", "norm": "w_norm"}


def algorithm_of(parts: frozenset[str]) -> str | None:
    """Which algorithm some parts belong to; None if they are not complete."""
    own = parts - {"alpha", "dora", "scalar"}
    for name, (needed, allowed) in ALGORITHMS.items():
        if own and needed <= own <= needed | allowed and (name != "lokr" or _complete_lokr(own)):
            return name
    return None


def _complete_lokr(parts: frozenset[str]) -> bool:
    return all(f"lokr_w{n}" in parts or {f"lokr_w{n}_a", f"lokr_w{n}_b"} <= parts for n in "12")


def rank_of(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The rank of a change, from the shapes of its parts; None where there is none to speak of."""
    for part in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "embedding_down"):
        if part in shapes:
            return shapes[part][0]
    return None


def shape_of(algorithm: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of the weight that a change fits, convolutions of 1x1 as (out, in); None if the parts disagree.

    LoHa of a convolution keeps its kernel folded into the second number.
    """
    if algorithm == "lora":
        down, up = shapes["down"], shapes["up"]
        middle = shapes.get("mid")
        if down[0] != (middle[1] if middle else up[1]) or (middle and middle[0] != up[1]):
            return None
        kernel = middle[2:] if middle else down[2:]
        return squeezed((up[0], down[1], *kernel))
    if algorithm == "loha":
        a, b = shapes["hada_w1_a"], shapes["hada_w1_b"]
        if "hada_t1" in shapes:
            return squeezed((a[1], b[1], *shapes["hada_t1"][2:]))
        return (a[0], b[1]) if a[1] == b[0] else None
    if algorithm == "lokr":
        first = shapes.get("lokr_w1") or (shapes["lokr_w1_a"][0], shapes["lokr_w1_b"][1])
        second = shapes.get("lokr_w2")
        if second is None and "lokr_t2" in shapes:
            second = (shapes["lokr_w2_a"][1], shapes["lokr_w2_b"][1], *shapes["lokr_t2"][2:])
        elif second is None:
            second = (shapes["lokr_w2_a"][0], shapes["lokr_w2_b"][1])
        return squeezed((first[0] * second[0], first[1] * second[1], *second[2:]))
    if algorithm == "embedding":
        return (shapes["embedding_down"][1], shapes["embedding_up"][0])
    found = shapes.get(_WHOLE[algorithm])
    return found if found is None else squeezed(found)


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without a kernel of 1x1."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def fits(algorithm: str, shape: tuple[int, ...] | None, weight: tuple[int, ...]) -> bool:
    """Whether a change of this shape (`shape_of`) fits a weight."""
    if shape is None:
        return algorithm in ("full", "norm")  # a change of the bias alone
    flat = (weight[0], math.prod(weight[1:]))
    return shape == squeezed(weight) or (len(weight) > 1 and algorithm in ("loha", "lokr") and shape == flat)


def delta(algorithm: str, parts: Parts, weight: Tensor) -> Tensor:
    """The change of a weight at scale 1, in float32 on the weight's device; DoRA is not in it.

    Args:
        algorithm: a key of `ALGORITHMS`.
        parts: its tensors.
        weight: the weight, of which shape and device count.
    """
    import torch

    p = {name: value.to(weight.device, torch.float32) for name, value in parts.items()}
    found: Any
    if algorithm == "lora":
        down, up = p["down"], p["up"]
        if "mid" in p:
            found = torch.einsum("op,pqkl,qi->oikl", up.flatten(1), p["mid"], down.flatten(1))
        else:
            found = up.flatten(1) @ down.flatten(1)
    elif algorithm == "loha":
        found = _product(p, "hada_w1", "hada_t1") * _product(p, "hada_w2", "hada_t2")
    elif algorithm == "lokr":
        first, second = kronecker_factors(p)
        found = torch.kron(first, second.flatten(1))
        if second.dim() == 4:
            found = found.reshape(found.shape[0], -1, *second.shape[2:])
    elif algorithm == "embedding":
        found = (p["embedding_up"] @ p["embedding_down"]).T
    else:
        found = p[_WHOLE[algorithm]]
    whole: Tensor = found.reshape(weight.shape)
    return whole * p["scalar"] if "scalar" in p else whole


def _product(p: Parts, pair: str, core: str) -> Tensor:
    import torch

    if core in p:
        return torch.einsum("ijkl,ip,jr->prkl", p[core], p[pair + "_a"], p[pair + "_b"])
    return p[pair + "_a"] @ p[pair + "_b"]


def kronecker_factors(parts: Parts) -> tuple[Tensor, Tensor]:
    """LoKr's factors: (out1, in1) and (out2, in2[, height, width]), the second perhaps with a folded kernel."""
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    second = parts["lokr_w2"] if "lokr_w2" in parts else _product(parts, "lokr_w2", "lokr_t2")
    return first, second


def bias_delta(algorithm: str, parts: Parts, bias: Tensor) -> Tensor | None:
    """The change of the bias beside the weight at scale 1, or None if the file has none."""
    import torch

    name = _BIAS.get(algorithm, "")
    return parts[name].to(bias.device, torch.float32).reshape(bias.shape) if name in parts else None


def with_magnitude(weight: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: the change of a weight whose rows get their lengths from ``magnitude`` (arXiv 2402.09353, equation 5).

    Args:
        weight: the original.
        change: scaled change of its direction, same shape.
        magnitude: one number for each output, or for each input in files of early LyCORIS.

    Returns:
        The difference between the new weight and the original, float32.
    """
    import torch

    original = weight.float()
    changed = original + change
    given = magnitude.to(weight.device, torch.float32)
    # Early LyCORIS and OneTrainer write lengths of columns, (1, inputs); those of rows are (outputs,) or (outputs, 1).
    lying = given.dim() == weight.dim() == 2 and given.shape[0] == 1 < weight.shape[0]
    if lying or (given.shape[0] != weight.shape[0] and given.numel() == weight.shape[1] != weight.shape[0]):
        lengths = changed.transpose(0, 1).flatten(1).norm(dim=1)
        factor = (given.flatten() / lengths).reshape(1, -1, *[1] * (weight.dim() - 2))
    else:
        lengths = changed.flatten(1).norm(dim=1)
        factor = (given.flatten() / lengths).reshape(-1, *[1] * (weight.dim() - 1))
    difference: Tensor = changed * factor - original
    return difference
