"""Distances between a prediction and its target: tensors in, one value for each sample out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of each sample, in which the mask says how much each place counts.

    The weights are those of the mask divided by their sum, so that a small masked region is learnt as fast as a
    large one. A mask of ones gives the plain mean, one of zeros gives 0 (and no gradient).

    Args:
        values: (n, c, h, w), or (n, ...) without a mask.
        mask: (n, 1, H, W) in [0, 1], of any size: it is averaged over the area that a value stands for, or the
            nearest place of a smaller one is taken.

    Returns:
        (n,), of the type of ``values``.
    """
    if mask is None:
        return values.flatten(1).mean(1)
    size = (values.shape[-2], values.shape[-1])
    if mask.shape[-2:] != size:
        mask = interpolate(mask, size, mode="area")
    mask = mask.to(values).expand_as(values).flatten(1)
    total = mask.sum(1)
    return (values.flatten(1) * mask).sum(1) / torch.where(total > 0, total, 1)


def mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each sample, (n,). For ``mask`` see `masked_mean`."""
    return masked_mean((prediction - target).square(), mask)


def l1(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of each sample, (n,). For ``mask`` see `masked_mean`."""
    return masked_mean((prediction - target).abs(), mask)


def huber(prediction: Tensor, target: Tensor, threshold: Tensor | float, mask: Tensor | None = None) -> Tensor:
    """Pseudo-Huber loss of each sample: ``2 c (sqrt(d^2 + c^2) - c)``.

    About ``d^2``, as the squared error, for differences d far below the threshold c, and about ``2 c |d|`` far
    above it, so that outliers pull less (arXiv 2403.16728; twice the form given there, as
    training scripts have it).

    Args:
        prediction, target: (n, ...).
        threshold: c > 0, one for all or (n,), as `sdcore_train.losses.weights.huber_threshold` gives.
        mask: see `masked_mean`.

    Returns:
        (n,).
    """
    difference = prediction - target
    c = torch.as_tensor(threshold, dtype=difference.dtype, device=difference.device)
    c = c.reshape(-1, *[1] * (difference.ndim - 1))
    # sqrt(d^2 + c^2) - c loses all digits where d is small; this is the same without the subtraction.
    square = difference.square()
    return masked_mean(2 * c * square / ((square + c * c).sqrt() + c), mask)


def gaussian_kl(moments: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each sample's latent from a standard normal one (arXiv 1312.6114, appendix B).

    The sum over all dimensions, as ``AutoencoderKL``'s ``posterior.kl()``.

    Args:
        moments: (n, 2 c, h, w): mean and log-variance, which is cut to [-30, 20].

    Returns:
        (n,).
    """
    mean, logvar = moments.chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)
