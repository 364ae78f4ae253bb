"""Distances, weights, noise and timesteps, against diffusers and the formulas of the papers."""

import math

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler, rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr
from sdcore_train.losses import functions as f
from torch.nn import functional

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
ALPHAS = SCHEDULER.alphas_cumprod
TIMES = torch.tensor([0, 7, 250, 500, 900, 999])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator()
    return torch.randn(shape, generator=source), torch.randn(shape, generator=source)


@pytest.mark.parametrize(("ours", "theirs"), [(f.mse, functional.mse_loss), (f.l1, functional.l1_loss)])
def test_distances_are_those_of_torch_for_each_sample(ours, theirs):
    a, b = pair(3, 4, 8, 6)
    expected = theirs(a, b, reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(ours(a, b), expected)
    torch.testing.assert_close(ours(a, b, torch.ones(3, 1, 64, 48)), expected)


def test_mask_chooses_what_counts():
    a, b = pair(3, 4, 8, 8)
    mask = torch.zeros(3, 1, 64, 64)
    mask[0, :, :16, :32] = 1  # 2 x 4 latent places
    mask[1] = 0.3
    found = f.mse(a, b, mask)
    torch.testing.assert_close(found[0], functional.mse_loss(a[0, :, :2, :4], b[0, :, :2, :4]))
    torch.testing.assert_close(found[1], functional.mse_loss(a[1], b[1]))
    assert found[2] == 0
    a.requires_grad_()
    f.mse(a, b, mask).sum().backward()
    assert a.grad[0, :, 2:].abs().max() == 0
    assert a.grad[2].abs().max() == 0
    assert torch.isfinite(a.grad).all()


def test_mask_counts_partly_covered_places_by_their_share():
    values = torch.tensor([[[[1.0, 3.0]]]])
    mask = torch.ones(1, 1, 8, 16)
    mask[..., :6] = 0  # the left place is covered by a quarter
    torch.testing.assert_close(f.masked_mean(values, mask), torch.tensor([(0.25 * 1 + 3) / 1.25]))


def test_huber_is_the_pseudo_huber_loss():
    a, b = pair(5, 4, 6, 6)
    c = torch.tensor([0.05, 0.1, 0.5, 1.0, 7.0])
    wide = c.double().view(-1, 1, 1, 1)
    expected = (2 * wide * (((a - b).double() ** 2 + wide**2).sqrt() - wide)).mean((1, 2, 3))
    torch.testing.assert_close(f.huber(a, b, c), expected.float())
    torch.testing.assert_close(f.huber(a, b, 0.1)[1], f.huber(a, b, c)[1])
    # a large threshold is the squared error, also where subtracting would leave no digits
    torch.testing.assert_close(f.huber(a, b, 1e4), f.mse(a, b))
    outlier = b.clone()
    outlier[0, 0, 0, 0] += 1000
    assert f.huber(outlier, b, 0.1)[0] < f.mse(outlier, b)[0] / 1000


def test_huber_thresholds_fall_as_training_scripts_have_it():
    least = 0.1
    alphas = ALPHAS[TIMES]
    sigmas = ((1.0 - alphas) / alphas) ** 0.5
    snr = (1 - least) / (1 + sigmas) ** 2 + least
    exponential = torch.tensor([math.exp(math.log(least) / 1000 * t) for t in TIMES.tolist()])
    torch.testing.assert_close(f.huber_threshold("snr", least, TIMES, ALPHAS), snr)
    torch.testing.assert_close(f.huber_threshold("exponential", least, TIMES, ALPHAS), exponential)
    assert f.huber_threshold("constant", least, TIMES, ALPHAS).tolist() == pytest.approx([least] * 6)


def test_snr_is_that_of_diffusers():
    torch.testing.assert_close(f.snr(ALPHAS, TIMES), compute_snr(SCHEDULER, TIMES))
    assert f.snr(torch.tensor([1.0, 0.0]), torch.tensor([0, 1])).tolist() == [math.inf, 0]


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_those_of_diffusers_example(gamma):
    ratio = compute_snr(SCHEDULER, TIMES)
    least = torch.stack([ratio, gamma * torch.ones_like(TIMES)], dim=1).min(dim=1)[0]
    torch.testing.assert_close(f.min_snr_weight(ratio, gamma, "epsilon"), least / ratio)
    torch.testing.assert_close(f.min_snr_weight(ratio, gamma, "v_prediction"), least / (ratio + 1))
    torch.testing.assert_close(f.min_snr_weight(ratio, gamma, "sample"), least)


def losses_of_one_error() -> dict[str, torch.Tensor]:
    """The squared errors of epsilon, v and x0 that a wrong guess of the noise has at each timestep."""
    noise, guess = pair(6, 4, 4, 4)
    clean = torch.randn(6, 4, 4, 4, generator=generator(1))
    alpha = ALPHAS[TIMES].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - ALPHAS[TIMES]).sqrt().view(-1, 1, 1, 1)
    noisy = alpha * clean + sigma * noise
    found = (noisy - sigma * guess) / alpha
    return {
        "epsilon": f.mse(guess, noise),
        "v_prediction": f.mse(alpha * guess - sigma * found, alpha * noise - sigma * clean),
        "sample": f.mse(found, clean),
    }


@pytest.mark.parametrize("weigh", [lambda r, p: f.min_snr_weight(r, 5, p), lambda r, p: f.debiased_weight(r, p, 1e9)])
def test_weights_make_the_same_loss_of_every_prediction(weigh):
    ratio = f.snr(ALPHAS, TIMES)
    weighted = [weigh(ratio, kind) * loss for kind, loss in losses_of_one_error().items()]
    torch.testing.assert_close(weighted[1], weighted[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weighted[2], weighted[0], rtol=1e-3, atol=1e-5)


def test_weights_are_finite_at_no_noise_and_at_pure_noise():
    ratio = torch.tensor([0.0, math.inf])
    assert f.min_snr_weight(ratio, 5, "epsilon").tolist() == [1, 0]
    assert f.min_snr_weight(ratio, 5, "v_prediction").tolist() == [0, 0]
    assert f.min_snr_weight(ratio, 5, "sample").tolist() == [0, 5]
    for kind in ("epsilon", "v_prediction", "sample"):
        assert torch.isfinite(f.debiased_weight(ratio, kind)).all()
    torch.testing.assert_close(f.debiased_weight(torch.tensor([4.0, 1e6]), "epsilon"), torch.tensor([0.5, 1000**-0.5]))


def test_zero_terminal_snr_is_that_of_diffusers():
    found = f.zero_terminal_snr(ALPHAS)
    expected = torch.cumprod(1 - rescale_zero_terminal_snr(SCHEDULER.betas), 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert found[-1] == 0
    torch.testing.assert_close(found[0], ALPHAS[0])


def test_kl_is_that_of_the_autoencoder():
    moments = 3 * torch.randn(3, 8, 4, 4, generator=generator())
    moments[0, 4:] = 50  # is cut
    torch.testing.assert_close(f.gaussian_kl(moments), DiagonalGaussianDistribution(moments).kl())
    assert f.gaussian_kl(torch.zeros(1, 8, 4, 4)).item() == 0


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_wavelet_with_equal_weights_is_the_squared_error(levels):
    a, b = pair(2, 4, 16, 24)
    torch.testing.assert_close(f.wavelet(a, b, detail=1, levels=levels), f.mse(a, b))


def test_wavelet_weighs_details_and_not_the_coarse():
    flat, target = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    board = torch.from_numpy(np.indices((8, 8)).sum(0) % 2 * 2.0 - 1).float()[None, None]
    assert f.wavelet(flat, target, detail=5).item() == pytest.approx(1)
    assert f.wavelet(board, target, detail=5).item() == pytest.approx(5)
    half = torch.zeros(1, 1, 64, 64)
    half[..., :32] = 1
    both = torch.cat([board[..., :4], flat[..., :4]], dim=-1)
    assert f.wavelet(both, target, detail=5, mask=half).item() == pytest.approx(5)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 8)])
def test_wavelet_takes_any_size(size):
    a, b = pair(2, 3, *size)
    assert torch.isfinite(f.wavelet(a, b, levels=4)).all()


def test_offset_noise_moves_whole_channels():
    noise = torch.randn(64, 4, 8, 8, generator=generator())
    shift = f.offset_noise(noise, 0.5, generator(1)) - noise
    assert (shift - shift[..., :1, :1]).abs().max() < 1e-6
    assert shift[..., 0, 0].std().item() == pytest.approx(0.5, rel=0.15)
    assert shift[..., 0, 0].unique().numel() == 256


def test_pyramid_noise_is_coarse_and_of_unit_variance():
    noise = torch.randn(16, 4, 32, 32, generator=generator())
    coarse = f.pyramid_noise(noise, 0.8, generator(1))
    torch.testing.assert_close(coarse.flatten(1).std(1), torch.ones(16))
    neighbours = (coarse[..., 1:] * coarse[..., :-1]).mean()
    assert neighbours > 0.3 > 0.05 > (noise[..., 1:] * noise[..., :-1]).mean().abs()
    torch.testing.assert_close(
        f.pyramid_noise(noise, 0.0, generator(1)), noise / noise.flatten(1).std(1)[:, None, None, None]
    )
    # a sample does not depend on the others of its batch, apart from what is drawn
    louder = torch.cat([noise[:1], 100 * noise[1:]])
    torch.testing.assert_close(f.pyramid_noise(louder, 0.8, generator(1))[0], coarse[0])


def test_input_perturbation_adds_independent_noise():
    noise = torch.randn(16, 4, 16, 16, generator=generator())
    added = f.input_perturbation(noise, 0.1, generator(1)) - noise
    assert added.std().item() == pytest.approx(0.1, rel=0.05)
    assert (added * noise).mean().abs() < 0.003


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: f.offset_noise(torch.zeros(2, 3, 4, 4), 1, g),
        lambda g: f.pyramid_noise(torch.ones(2, 3, 4, 4), 0.9, g),
        lambda g: f.input_perturbation(torch.zeros(2, 3, 4, 4), 1, g),
        lambda g: f.uniform_timesteps(9, 1000, g),
        lambda g: f.stratified_timesteps(9, 1000, g),
        lambda g: f.logit_normal_timesteps(9, 1000, g),
    ],
)
def test_only_the_generator_decides(draw):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one = draw(generator(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(one, draw(generator(3)))
    assert not torch.equal(one, draw(generator(4)))


@pytest.mark.parametrize("draw", [f.uniform_timesteps, f.stratified_timesteps, f.logit_normal_timesteps])
def test_timesteps_stay_in_their_range(draw):
    times = draw(5000, 1000, generator(), low=100, high=104)
    assert times.dtype == torch.int64
    assert times.unique().tolist() == [100, 101, 102, 103]
    assert draw(5000, 10, generator()).unique().tolist() == list(range(10))
    for low, high in ((5, 5), (-1, 5), (0, 1001)):
        with pytest.raises(ValueError, match="no range"):
            draw(1, 1000, generator(), low=low, high=high)


def test_stratified_timesteps_cover_the_range_evenly_in_random_order():
    times = f.stratified_timesteps(10, 1000, generator())
    assert sorted(t // 100 for t in times.tolist()) == list(range(10))
    assert times.tolist() != sorted(times.tolist())
    assert f.stratified_timesteps(0, 1000, generator()).shape == (0,)
    every = torch.cat([f.stratified_timesteps(4, 1000, generator(seed)) for seed in range(2000)])
    assert every.float().mean().item() == pytest.approx(499.5, abs=8)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.0, 0.5)])
def test_logit_normal_timesteps_have_that_distribution(mean, scale):
    times = f.logit_normal_timesteps(20000, 1000, generator(), mean=mean, scale=scale)
    share = (times.double() + 0.5) / 1000
    logit = torch.log(share / (1 - share))
    assert logit.mean().item() == pytest.approx(mean, abs=0.03)
    assert logit.std().item() == pytest.approx(scale, rel=0.03)
