"""Pictures of which nothing can be made out. Pure: imports no sdcore."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

FIELDS = 4
"""Fields of colour on a side of a coarse preview."""
BLURRED = 6
"""Colours on the long side of a blurred picture."""


def coarse_latents(latents: Tensor) -> Tensor:
    """Latents (batch, channels, height, width) as 4 by 4 fields of their mean, of the same shape."""
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    pooled = adaptive_avg_pool2d(latents.float(), (min(FIELDS, latents.shape[-2]), min(FIELDS, latents.shape[-1])))
    return interpolate(pooled, size=latents.shape[-2:], mode="nearest").to(latents.dtype)


def blurred(image: Image) -> Image:
    """A picture of the same size and mode with six colours on its long side, blended into each other.

    No radius of a blur is chosen that someone could undo: 36 colours at most are kept, whatever the size.
    """
    from PIL.Image import Resampling

    scale = BLURRED / max(image.size)
    few = (max(2, round(image.width * scale)), max(2, round(image.height * scale)))
    return image.resize(few, Resampling.BOX).resize(image.size, Resampling.BICUBIC)
