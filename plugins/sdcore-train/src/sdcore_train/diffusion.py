"""The arithmetic of latent diffusion training, and the default of the port ``forward``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import ports
from .losses.functions import snr
from .stages import NoiseArgs, Outcome, TrainStep, UNetArgs

if TYPE_CHECKING:
    from torch import Tensor

    from .records import Batch


def sample_moments(moments: Tensor, generator: Any, scaling: float, shift: float = 0.0) -> Tensor:
    """A scaled latent (n, c, h, w) drawn from the Gaussian that a VAE's encoder describes.

    Args:
        moments: (n, 2 c, h, w): mean and log-variance, the latter kept in [-30, 20] as AutoencoderKL does.
        generator: a CPU generator.
        scaling, shift: of the VAE's configuration: latent = (z - shift) * scaling.
    """
    import torch

    mean, logvar = moments.chunk(2, dim=1)
    drawn = torch.randn(mean.shape, generator=generator).to(mean)
    return (mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * drawn - shift) * scaling


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """sqrt(a_t) x + sqrt(1 - a_t) e (arXiv 2006.11239, equation 4)."""
    a = alphas_cumprod.to(latents)[timesteps].view(-1, 1, 1, 1)
    return a**0.5 * latents + (1 - a) ** 0.5 * noise


def target_of(kind: str, latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """What the U-Net should predict: the noise, v = sqrt(a) e - sqrt(1 - a) x (arXiv 2202.00512), or the latents."""
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return latents
    a = alphas_cumprod.to(latents)[timesteps].view(-1, 1, 1, 1)
    return a**0.5 * noise - (1 - a) ** 0.5 * latents


def to_x0(kind: str, prediction: Tensor, noisy: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """The clean latents that a prediction amounts to."""
    if kind == "sample":
        return prediction
    a = alphas_cumprod.to(noisy)[timesteps].view(-1, 1, 1, 1)
    if kind == "epsilon":
        return (noisy - (1 - a) ** 0.5 * prediction) / a**0.5
    return a**0.5 * noisy - (1 - a) ** 0.5 * prediction


def forward(step: TrainStep, batch: Batch) -> Outcome:
    """Latent diffusion: encode, add noise in closed form, predict."""
    import torch

    job = step.job
    plan, device = job.plan, job.device
    latents = job.latents_of(step, batch).to(device, job.dtype)
    table = job.alphas_cumprod
    chosen = plan.choose(ports.timesteps, step, len(batch), step.generator("timesteps"))
    timesteps = (
        torch.randint(0, len(table), (len(batch),), generator=step.generator("timesteps")) if chosen is None else chosen
    ).to(device)
    drawn = torch.randn(latents.shape, generator=step.generator("noise"))
    noise = plan.chain(ports.noise, NoiseArgs(step, latents, timesteps, step.generator("noise-stages")), drawn)
    used = plan.chain(ports.noisy, NoiseArgs(step, latents, timesteps, step.generator("noisy-stages")), noise)
    noise, used = noise.to(latents), used.to(latents)
    noisy = add_noise(latents, used, table, timesteps)
    conditioning = job.text.conditioning(step, batch)
    args = UNetArgs(step, batch, noisy, timesteps, conditioning)
    predict = job.plan.onion(ports.unet_call, call_unet)
    kind = job.prediction
    return Outcome(
        step,
        batch,
        predict(args),
        target_of(kind, latents, noise, table, timesteps),
        kind,
        latents,
        noise,
        noisy,
        timesteps,
        snr(table, timesteps).to(device),
        conditioning,
        predict=predict,
    )


def call_unet(args: UNetArgs) -> Tensor:
    """The U-Net of the training, with the inputs that its kind needs."""
    job = args.step.job
    added: dict[str, Any] = {}
    if args.conditioning.pooled is not None:
        added = {
            "added_cond_kwargs": {
                "text_embeds": args.conditioning.pooled,
                "time_ids": args.conditioning.time_ids,
            }
        }
    return job.networks["unet"](  # type: ignore[no-any-return]
        args.sample, args.timesteps, args.conditioning.context, **added, **args.arguments, return_dict=False
    )[0]


def with_arguments(args: UNetArgs, **more: Any) -> UNetArgs:
    """The same call with further arguments of the U-Net's forward."""
    return replace(args, arguments={**args.arguments, **more})
