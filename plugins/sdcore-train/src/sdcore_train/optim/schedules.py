"""The course of the learning rate, as a function of the step: there is no state to save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdcore_train.config import Schedule


def rate(config: Schedule, step: int, steps: int) -> float:
    """Share of the learning rate at one update.

    As ``diffusers.optimization.get_scheduler`` has it: a linear rise from 0 over ``warmup`` updates, so that the
    very first one changes nothing, then the course that ``name`` says, down to ``final`` after ``steps``
    (constant stays at 1).

    Args:
        config: the schedule.
        step: updates done before this one, from 0.
        steps: updates in all.

    Returns:
        A factor in [0, 1].
    """
    if step < config.warmup:
        return step / config.warmup
    if config.name == "constant":
        return 1.0
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    if progress >= 1:
        return config.final
    if config.name == "linear":
        share = 1 - progress
    elif config.name == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * progress))
    elif config.name == "polynomial":
        share = (1 - progress) ** config.power
    else:
        share = 0.5 * (1 + math.cos(math.pi * (config.cycles * progress % 1)))
    return config.final + (1 - config.final) * share
