"""Noise: plain, with a shift of whole channels, of several resolutions, and perturbed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, drawn on the generator's device, with the type and on the device of ``like``.

    It is drawn in float32: with a generator on the CPU all devices and types see the same noise.
    """
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32).to(like)


def offset_noise(noise: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add a constant to each channel of each sample, so that very dark and very bright pictures can be learnt.

    N. Guttenberg, "Diffusion with offset noise", crosslabs.org, 2023.

    Args:
        noise: (n, c, h, w).
        strength: standard deviation of the constants; 0.05 to 0.1 is usual.
        generator: for the constants.
    """
    return noise + strength * normal((*noise.shape[:2], 1, 1), noise, generator)


def pyramid_noise(noise: Tensor, discount: float, generator: torch.Generator, levels: int = 6) -> Tensor:
    """Add noise of ever lower resolution, and scale the sum of each sample to unit variance.

    J. Whitaker, "Multi-resolution noise for diffusion model training", wandb.ai, 2023. There the factor between
    resolutions is random, in [2, 4), as it is here.

    Args:
        noise: (n, c, h, w), the finest level.
        discount: weight of each level relative to the one before, in [0, 1); 0 gives the noise, scaled.
        generator: for the factor and the noise of the levels.
        levels: how many are added, at most: it ends when one side has a single pixel.
    """
    n, channels, height, width = noise.shape
    total = noise.clone()
    high, wide, weight = height, width, 1.0
    for level in range(1, levels + 1):
        if min(high, wide) == 1:
            break
        draw = torch.rand((), generator=generator, device=generator.device)
        factor = (2 + 2 * float(draw)) ** level
        high, wide = max(1, int(height / factor)), max(1, int(width / factor))
        weight *= discount
        coarse = normal((n, channels, high, wide), noise, generator)
        total += weight * interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return total / total.flatten(1).std(1).view(-1, 1, 1, 1)


def input_perturbation(noise: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Noise for the network's input only, while the target stays ``noise`` (arXiv 2301.11706).

    It makes training see inputs that are as wrong as those that sampling gives. 0.1 in the paper.

    Args:
        noise: (n, c, h, w).
        strength: standard deviation of what is added.
        generator: for what is added.
    """
    return noise + strength * normal(tuple(noise.shape), noise, generator)
