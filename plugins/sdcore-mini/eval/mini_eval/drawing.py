"""Pictures by a model, and its codec's error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore import Engine

    from .prompts import Prompt


def draw(engine: Engine, prompts: Sequence[Prompt], steps: int | None, guidance: float | None) -> list[Image]:
    """One picture of each prompt, with its own seed. None takes the model's default."""
    found = []
    for prompt in tqdm(prompts, desc="drawing", unit="picture", mininterval=1.0):
        result = engine.generate(prompt.text, seed=prompt.seed, steps=steps, guidance_scale=guidance)
        found.append(result.images[0].convert("RGB"))
    return found


def psnr(mean_squared_error: float) -> float:
    """Decibels, of pictures in 0..1."""
    return -10 * math.log10(max(mean_squared_error, 1e-12))


@torch.inference_mode()
def reconstruction(engine: Engine, pictures: Tensor) -> tuple[float, float]:
    """The codec's PSNR in decibels: the mean over pictures, and that of the mean squared error of all.

    Args:
        engine: its model's VAE encodes (the mode, not a sample) and decodes.
        pictures: (count, 3, h, w) in 0..1.
    """
    vae = engine.model.vae
    weight = next(vae.parameters())
    errors = []
    for part in tqdm(torch.split(pictures, 16), desc="codec", unit="batch", mininterval=1.0):
        given = (part * 2 - 1).to(weight.device, weight.dtype)
        again = vae.decode(vae.encode(given).latent_dist.mode()).sample
        again = ((again.float().cpu() / 2 + 0.5).clamp(0, 1) * 255).round() / 255
        errors.append((again - part).square().mean((1, 2, 3)))
    each = torch.cat(errors)
    return sum(psnr(error) for error in each.tolist()) / len(each), psnr(each.mean().item())
