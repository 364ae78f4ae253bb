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
            return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).float()

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


def widths_for(factor: int) -> tuple[int, ...]:
    """Widths of the embedding for latents so many times smaller than pictures: the published ones, or their first."""
    count = round(math.log2(factor)) + 1
    return WIDTHS[:count] if count <= len(WIDTHS) else WIDTHS + (WIDTHS[-1],) * (count - len(WIDTHS))
