"""The training ``controlnet``: a locked U-Net, a copy of its encoder, zero convolutions (arXiv 2302.05543)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcore_train import ConfigError, UNetArgs, generator

from .base import ControlTraining, added
from .options import TrainControlNet

if TYPE_CHECKING:
    from sdcore_train import Job
    from torch import Tensor

WIDTHS = (16, 32, 96, 256)
"""Of published nets, whose latents are 8 times smaller than pictures."""
SILU_GAIN = 1.68


class ControlNetTraining(ControlTraining):
    """Trains a ControlNet; writes its folder."""

    name = "controlnet"
    Options = TrainControlNet
    command = True
    about = "train a ControlNet"
    defaults = {"optimizer.learning_rate": 1e-5}  # noqa: RUF012
    kind = "ControlNet"
    options: TrainControlNet

    def _new(self, job: Job) -> Any:
        import torch
        from diffusers.models.controlnets.controlnet import ControlNetModel

        factor = job.model.vae_scale_factor
        widths = self.options.embedding_channels or widths_for(factor)
        if 2 ** (len(widths) - 1) != factor:
            raise ConfigError(
                f"{self.name}: embedding_channels has {len(widths)} widths, and latents are {factor} times smaller "
                f"than pictures: {round(math.log2(factor)) + 1} are needed, or none to have them chosen"
            )
        unet: Any = job.model.unet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(job.config.seed, self.name).initial_seed())
            net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).float()
            if self.options.embedding_init == "scaled":
                keep_size(net.controlnet_cond_embedding)
            return net

    def _call(self, args: UNetArgs, call_next: Callable[[UNetArgs], Tensor]) -> Tensor:
        conditioning = args.conditioning
        more: dict[str, Any] = {}
        if conditioning.pooled is not None:
            more = {"added_cond_kwargs": {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}}
        down, mid = args.step.job.networks[self.name](
            args.sample,
            args.timesteps,
            encoder_hidden_states=conditioning.context,
            controlnet_cond=args.batch.extra[self.name].to(args.sample),
            return_dict=False,
            **more,
        )
        before = args.arguments
        middle = before.get("mid_block_additional_residual")
        sums = {
            "down_block_additional_residuals": added(before.get("down_block_additional_residuals"), down),
            "mid_block_additional_residual": mid if middle is None else middle + mid,
        }
        return call_next(replace(args, arguments={**before, **sums}))


def keep_size(embedding: Any) -> None:
    """Draw an embedding's convolutions so that what goes through it keeps its size; the last one stays at nothing.

    Weights are normal with deviation ``gain / sqrt(fan_in)``, biases 0 (He et al., arXiv 1502.01852). The gain of SiLU
    is that of a normal input: ``1 / sqrt(E[silu(x)^2])`` = 1.68.
    """
    import torch

    for convolution in (embedding.conv_in, *embedding.blocks):
        fan_in = convolution.weight[0].numel()
        torch.nn.init.normal_(convolution.weight, std=SILU_GAIN / fan_in**0.5)
        torch.nn.init.zeros_(convolution.bias)


def widths_for(factor: int) -> tuple[int, ...]:
    """Widths of the embedding for latents so many times smaller than pictures: the published ones, or their first."""
    count = round(math.log2(factor)) + 1
    return WIDTHS[:count] if count <= len(WIDTHS) else WIDTHS + (WIDTHS[-1],) * (count - len(WIDTHS))
