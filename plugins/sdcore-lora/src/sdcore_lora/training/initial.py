"""First weights of a change, in pure tensor functions.

A change of a weight (out, in[, h, w]) is scale * up @ down, with down (rank, in[, h, w]) and up (out, rank[, 1, 1]).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def kaiming(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """A down part, uniform in +-1 / sqrt(inputs): torch's default for linear layers, as in arXiv 2106.09685's code."""
    import torch

    bound = math.prod(shape[1:]) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def gaussian(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """A down part, normal with a standard deviation of 1 / rank, as diffusers' scripts and peft have it."""
    import torch

    return torch.empty(shape).normal_(0.0, 1 / shape[0], generator=generator)


def principal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The down and up parts whose change is the weight's nearest of that rank (PiSSA, arXiv 2404.02948, section 3).

    Args:
        weight: (out, in[, h, w]).
        rank: of the parts; what is more than the weight's own rank is zeros.
        scale: the change is scale * up @ down.
    """
    import torch

    matrix = weight.detach().float().flatten(1)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = min(rank, len(s))
    root = (s[:found] / scale).sqrt()
    down = torch.zeros(rank, matrix.shape[1])
    up = torch.zeros(matrix.shape[0], rank)
    down[:found], up[:, :found] = root[:, None] * v[:found], u[:, :found] * root
    return down.reshape(rank, *weight.shape[1:]), up.reshape(*up.shape, *[1] * (weight.dim() - 2))


def product(down: Tensor, up: Tensor, scale: float) -> Tensor:
    """The change (out, in[, h, w])."""
    whole: Tensor = scale * (up.flatten(1) @ down.flatten(1))
    return whole.reshape(up.shape[0], *down.shape[1:])


def lengths(weight: Tensor) -> Tensor:
    """Lengths of the rows of a weight, (out,): DoRA's first magnitudes (arXiv 2402.09353, equation 5)."""
    found: Tensor = weight.flatten(1).norm(dim=1)
    return found
