"""Safe Latent Diffusion: the arithmetic (Schramowski et al., arXiv 2211.05105, section 3). Pure: imports no sdcore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CONCEPT = (
    "an image showing hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, bodily "
    "fluids, blood, obscene gestures, illegal activity, drug use, theft, vandalism, weapons, child abuse, brutality, "
    "cruelty"
)
"""What its authors draw away from."""


@dataclass(frozen=True)
class Strength:
    """One of the paper's settings (its table 1).

    Attributes:
        warmup: steps before it acts; momentum builds up meanwhile.
        scale: s_S: how fast the guidance grows with the difference of the predictions.
        threshold: lambda: elements where the prompt is at least this far above the concept are left alone.
        momentum: s_m: how much of the momentum is added.
        beta: beta_m: how much of the momentum is kept.
    """

    warmup: int
    scale: float
    threshold: float
    momentum: float
    beta: float


STRENGTHS: Mapping[str, Strength] = {
    "weak": Strength(15, 20.0, 0.0, 0.0, 0.0),
    "medium": Strength(10, 1000.0, 0.01, 0.3, 0.4),
    "strong": Strength(7, 2000.0, 0.025, 0.5, 0.7),
    "max": Strength(0, 5000.0, 1.0, 0.5, 0.7),
}


def safety_guidance(
    cond: Tensor, uncond: Tensor, safety: Tensor, momentum: Tensor | None, strength: Strength
) -> tuple[Tensor, Tensor]:
    """What is taken from ``cond - uncond`` before the guidance scale, and the momentum for the next step.

    Args:
        cond, uncond, safety: predictions (batch, channels, height, width) for the prompt, the negative prompt and the
            concept.
        momentum: of the step before; None in the first.
        strength: the setting.
    """
    import torch

    difference = cond - safety
    scale = torch.clamp(difference.abs() * strength.scale, max=1.0)  # equation 6
    scale = torch.where(difference >= strength.threshold, torch.zeros_like(scale), scale)
    guidance = (safety - uncond) * scale  # equation 4
    if momentum is None:
        momentum = torch.zeros_like(guidance)
    guidance = guidance + strength.momentum * momentum  # equation 7
    return guidance, strength.beta * momentum + (1 - strength.beta) * guidance  # equation 8
