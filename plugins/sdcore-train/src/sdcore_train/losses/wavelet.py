"""A loss in the bands of a Haar wavelet transform."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .distances import masked_mean


def haar(values: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform.

    Args:
        values: (n, c, h, w). An odd side is made even by repeating its last row or column.

    Returns:
        The coarse band (n, c, h / 2, w / 2), and the horizontal, vertical and diagonal details
        (n, 3 c, h / 2, w / 2).
    """
    height, width = values.shape[-2:]
    if height % 2 or width % 2:
        values = pad(values, (0, width % 2, 0, height % 2), mode="replicate")
    a, b = values[..., 0::2, 0::2], values[..., 0::2, 1::2]
    c, d = values[..., 1::2, 0::2], values[..., 1::2, 1::2]
    details = (a - b + c - d, a + b - c - d, a - b - c + d)
    return (a + b + c + d) / 2, torch.cat(details, dim=1) / 2


def wavelet(
    prediction: Tensor, target: Tensor, detail: float = 2.0, levels: int = 1, mask: Tensor | None = None
) -> Tensor:
    """Squared error of each sample in wavelet bands, with the details weighted.

    After the loss of wavelet-based fine-tuning (Diffusion-4K, arXiv 2503.18352), which compares
    prediction and target in Haar bands. The transform is orthonormal: with ``detail`` 1 this is the mean squared
    error (for sides that ``2 ** levels`` divides), so that ``detail`` alone says how much more details count.

    Args:
        prediction, target: (n, c, h, w).
        detail: weight of the squared error in the detail bands, at least 0.
        levels: how often the coarse band is split again; ends when a side is 1.
        mask: (n, 1, H, W), see `masked_mean`; it is brought to the size of each band.

    Returns:
        (n,).
    """
    coarse, share = prediction - target, 1.0
    total = torch.zeros((), device=coarse.device, dtype=coarse.dtype)
    for _ in range(levels):
        if min(coarse.shape[-2:]) == 1:
            break
        coarse, details = haar(coarse)
        total = total + detail * 0.75 * share * masked_mean(details.square(), mask)
        share /= 4
    return total + share * masked_mean(coarse.square(), mask)
