"""What depends on how much noise a timestep has: weights of the loss, thresholds, and the noise schedule itself."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample"]


def snr(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """Signal-to-noise ratio ``a / (1 - a)`` at each timestep, (n,) float32; 0 and infinity where a is 0 and 1."""
    alpha = alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
    return alpha / (1 - alpha)


def min_snr_weight(ratio: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Weights that let no timestep dominate (arXiv 2303.09556).

    The weight of the x0 loss is ``min(SNR, gamma)``; the same loss in terms of epsilon has ``min(SNR, gamma) / SNR``
    and in terms of v ``min(SNR, gamma) / (SNR + 1)``. Where the SNR is 0 the weight of epsilon is 1, its limit.

    Args:
        ratio: (n,) signal-to-noise ratios, from `snr`.
        gamma: above 0; 5 in the paper.
        prediction: what the network predicts.

    Returns:
        (n,).
    """
    if prediction == "epsilon":
        return (gamma / ratio).clamp(max=1)
    least = ratio.clamp(max=gamma)
    return least / (ratio + 1) if prediction == "v_prediction" else least


def debiased_weight(ratio: Tensor, prediction: Prediction, limit: float = 1000.0) -> Tensor:
    """Weights that undo the bias against noisy timesteps (arXiv 2310.08442): ``1 / sqrt(SNR)`` for epsilon.

    The paper treats epsilon. For the others it is the same loss in their terms: ``sqrt(SNR)`` for x0 and
    ``sqrt(SNR) / (SNR + 1)`` for v. (sd-scripts takes ``1 / (SNR + 1)`` for v instead.)

    Args:
        ratio: (n,) signal-to-noise ratios, from `snr`.
        prediction: what the network predicts.
        limit: ratios are cut to [1 / limit, limit], because the weight has no bound.

    Returns:
        (n,).
    """
    ratio = ratio.clamp(1 / limit, limit)
    if prediction == "epsilon":
        return ratio.rsqrt()
    return ratio.sqrt() / (ratio + 1) if prediction == "v_prediction" else ratio.sqrt()


def huber_threshold(
    schedule: Literal["constant", "exponential", "snr"], least: float, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """Thresholds of the pseudo-Huber loss that fall with the noise (arXiv 2403.16728).

    With little noise the loss is nearly the squared error, so that details are learnt; with much noise, where a
    wrong picture does most harm, it is robust.

    * constant: ``least``;
    * exponential: ``least ** (t / T)``, from 1 to ``least``;
    * snr: ``(1 - least) / (1 + sigma)^2 + least`` with ``sigma = sqrt((1 - a) / a)``.

    Args:
        schedule: which of them.
        least: the threshold at the noisiest timestep, in (0, 1]; 0.1 is usual.
        timesteps: (n,).
        alphas_cumprod: (T,), of the noise schedule.

    Returns:
        (n,) float32, on the timesteps' device.
    """
    times = timesteps.to(torch.float32)
    if schedule == "constant":
        return torch.full_like(times, least)
    if schedule == "exponential":
        return torch.exp(times * (math.log(least) / len(alphas_cumprod)))
    sigma = snr(alphas_cumprod, timesteps).rsqrt()
    return (1 - least) / (1 + sigma).square() + least


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """A noise schedule whose last timestep is pure noise (arXiv 2305.08891, algorithm 1).

    ``sqrt(a)`` is shifted and scaled so that its first value stays and its last becomes 0. A network that predicts
    epsilon cannot be trained at that timestep.

    Args:
        alphas_cumprod: (T,) falling, in (0, 1].

    Returns:
        (T,), with 0 at the end.
    """
    root = alphas_cumprod.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * (first / (first - last))).square()
