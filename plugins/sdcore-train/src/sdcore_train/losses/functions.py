"""Everything that a loss is made of, in one place: distances, weights by timestep, noise, and timesteps.

Each distance gives one value for each sample, (n,); the trainer weighs and averages them.
"""

from __future__ import annotations

from .distances import gaussian_kl, huber, l1, masked_mean, mse
from .noise import input_perturbation, normal, offset_noise, pyramid_noise
from .timesteps import logit_normal_timesteps, stratified_timesteps, uniform_timesteps
from .wavelet import haar, wavelet
from .weights import debiased_weight, huber_threshold, min_snr_weight, snr, zero_terminal_snr

__all__ = [
    "debiased_weight",
    "gaussian_kl",
    "haar",
    "huber",
    "huber_threshold",
    "input_perturbation",
    "l1",
    "logit_normal_timesteps",
    "masked_mean",
    "min_snr_weight",
    "mse",
    "normal",
    "offset_noise",
    "pyramid_noise",
    "snr",
    "stratified_timesteps",
    "uniform_timesteps",
    "wavelet",
    "zero_terminal_snr",
]
