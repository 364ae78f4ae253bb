"""Which timesteps are trained: int64 tensors (n,) on the CPU, drawn from a generator.

Each function takes ``low`` and ``high``: timesteps are in [low, high), and ``high`` None is the number of all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_timesteps(
    count: int, total: int, generator: torch.Generator, low: int = 0, high: int | None = None
) -> Tensor:
    """Each timestep of the range with the same probability.

    Args:
        count: n.
        total: number of training timesteps of the noise schedule.
        generator: for the draw; on the CPU.
        low, high: the range [low, high); None is ``total``.

    Raises:
        ValueError: the range is empty, or not within [0, total].
    """
    low, high = _checked(low, high, total)
    return torch.randint(low, high, (count,), generator=generator)


def stratified_timesteps(
    count: int, total: int, generator: torch.Generator, low: int = 0, high: int | None = None
) -> Tensor:
    """One timestep from each of ``count`` equal parts of the range, in random order.

    Each is uniform by itself, but a batch covers the range evenly, so that its loss varies less (compare the
    low-discrepancy sampler of arXiv 2107.00630). For arguments and errors see `uniform_timesteps`.
    """
    low, high = _checked(low, high, total)
    place = torch.rand(count, generator=generator, dtype=torch.float64) + torch.arange(count)
    return _spread(place / max(1, count), low, high)[torch.randperm(count, generator=generator)]


def logit_normal_timesteps(
    count: int,
    total: int,
    generator: torch.Generator,
    mean: float = 0.0,
    scale: float = 1.0,
    low: int = 0,
    high: int | None = None,
) -> Tensor:
    """Timesteps in the middle more often: the sigmoid of a normal variable, over the range (arXiv 2403.03206).

    Args:
        count, total, generator, low, high: as for `uniform_timesteps`.
        mean: above 0 favours noisy timesteps.
        scale: standard deviation; the smaller, the closer to the middle.

    Raises:
        ValueError: as for `uniform_timesteps`.
    """
    low, high = _checked(low, high, total)
    draw = torch.randn(count, generator=generator, dtype=torch.float64)
    return _spread(torch.sigmoid(mean + scale * draw), low, high)


def _spread(share: Tensor, low: int, high: int) -> Tensor:
    return (low + (share * (high - low)).floor().long()).clamp(max=high - 1)


def _checked(low: int, high: int | None, total: int) -> tuple[int, int]:
    high = total if high is None else high
    if not 0 <= low < high <= total:
        raise ValueError(f"timesteps from {low} up to {high} are no range within 0 and {total}")
    return low, high
