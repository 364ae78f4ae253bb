"""Dropout whose masks follow from the seed and the step, so that a training that goes on needs no generator's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class Clock:
    """The number of the micro-batch and of the process, which masks depend on."""

    def __init__(self, process: int = 0) -> None:
        self.number = 0
        self.process = process


class SteppedDropout(nn.Module):
    """``torch.nn.Dropout`` without the global generator.

    A second call in the same micro-batch has the same mask, so that gradient checkpointing computes the same again.

    Args:
        share: of the elements that become 0; the others are divided by 1 - share.
        seed_of: numbers of the micro-batch and of the process to the seed of a mask.
        clock: tells the numbers.
    """

    def __init__(self, share: float, seed_of: Callable[[int, int], int], clock: Clock) -> None:
        super().__init__()
        self._share = share
        self._seed_of = seed_of
        self._clock = clock

    def forward(self, hidden: Tensor) -> Tensor:
        """Elements of a hidden state, of any shape; all of them outside of training."""
        import torch

        if not self.training:
            return hidden
        generator = torch.Generator(hidden.device).manual_seed(self._seed_of(self._clock.number, self._clock.process))
        kept = torch.rand(hidden.shape, generator=generator, device=hidden.device) >= self._share
        return hidden * kept.to(hidden.dtype) / (1 - self._share)
