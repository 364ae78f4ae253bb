"""Masks in front of the loop: pixels to numbers, numbers to latent places. Plain functions of tensors.

A mask is 1 where the picture is redrawn, 0 where it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

NEVER = 2**31
"""The step at which a pixel that is kept would begin to change."""


def mask_to_tensor(mask: Image, height: int, width: int) -> Tensor:
    """A mask of mode "L" resized (Lanczos) to a float32 tensor (1, 1, height, width) in [0, 1].

    Bit-identical to diffusers' ``VaeImageProcessor.preprocess`` before it makes the mask binary.
    """
    import numpy as np
    import torch
    from PIL.Image import Resampling

    resized = mask.resize((width, height), resample=Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized).astype(np.float32) / 255.0)[None, None]


def binary(mask: Tensor) -> Tensor:
    """0 below one half, 1 from there on."""
    return (mask >= 0.5).to(mask.dtype)


def any_grey(mask: Tensor) -> Tensor:
    """1 wherever a mask is not black: all that may change."""
    return (mask > 0).to(mask.dtype)


def nearest(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (1, 1, h, w) at the places of latents, each taking one pixel: diffusers' way for binary masks."""
    import torch

    return torch.nn.functional.interpolate(mask, size=(height, width))


def averaged(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (1, 1, h, w) at the places of latents, each the mean of its pixels, in float64."""
    import torch

    return torch.nn.functional.adaptive_avg_pool2d(mask.double(), (height, width))


def first_steps(strength: Tensor, steps: int) -> Tensor:
    """For every place the step from which on it changes, as differential diffusion has it (arXiv 2306.00950).

    A place of strength m takes part in the last ``int(steps * m)`` of the steps, as image to image of that
    strength would; places that take part in none get :data:`NEVER`.

    Args:
        strength: in [0, 1], any shape.
        steps: of a whole schedule.

    Returns:
        int64, the shape of ``strength``.
    """
    taken = (strength.double() * steps + 1e-6).floor().clamp(max=steps).long()  # 8-bit greys are a little off
    return (steps - taken).masked_fill(taken <= 0, NEVER)


def blend(kept: Tensor, drawn: Tensor, mask: Tensor) -> Tensor:
    """``(1 - mask) * kept + mask * drawn``, in the order of diffusers' inpainting pipelines."""
    return (1 - mask) * kept + mask * drawn
