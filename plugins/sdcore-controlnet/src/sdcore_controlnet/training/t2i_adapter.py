"""The training ``t2i-adapter``: a small net whose features are added inside the U-Net's encoder (arXiv 2302.08453)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcore_train import UNetArgs, generator

from sdcore_controlnet.forward import to_multiple

from .base import ControlTraining, added
from .options import TrainT2IAdapter

if TYPE_CHECKING:
    from sdcore_train import Job
    from torch import Tensor

INSIDE = "down_intrablock_additional_residuals"


class T2IAdapterTraining(ControlTraining):
    """Trains a T2I-Adapter; writes its folder."""

    name = "t2i-adapter"
    Options = TrainT2IAdapter
    command = True
    about = "train a T2I-Adapter"
    defaults = {"optimizer.learning_rate": 1e-5}  # noqa: RUF012
    kind = "T2I-Adapter"
    options: TrainT2IAdapter

    def check(self, job: Job) -> Iterable[str]:
        """The light kind has the same width on its last two levels, and no form for SDXL."""
        yield from super().check(job)
        unet: Any = job.model.unet.config
        widths = list(unet.block_out_channels)
        if self.options.kind == "light" and (job.model.family == "sdxl" or widths[-1:] != widths[-2:-1]):
            yield (
                f"{self.name}: kind light is for SD1 and SD2, whose U-Nets have the same width on their last two "
                f"levels; this one has {widths}: use full"
            )

    def _new(self, job: Job) -> Any:
        import torch
        from diffusers.models.adapter import T2IAdapter

        unet: Any = job.model.unet.config
        settings = adapter_settings(
            list(unet.block_out_channels), job.model.vae_scale_factor, self.options.kind, job.model.family == "sdxl"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(job.config.seed, self.name).initial_seed())
            return T2IAdapter(in_channels=3, num_res_blocks=self.options.blocks, **settings).float()

    def _call(self, args: UNetArgs, call_next: Callable[[UNetArgs], Tensor]) -> Tensor:
        controls = to_multiple(args.batch.extra[self.name].to(args.sample), int(self.net.config.downscale_factor))
        features = args.step.job.networks[self.name](controls)
        # The U-Net takes them out of the list one by one, so each call gets a list of its own.
        return call_next(
            replace(args, arguments={**args.arguments, INSIDE: added(args.arguments.get(INSIDE), features)})
        )


def adapter_settings(widths: list[int], factor: int, kind: str, xl: bool) -> dict[str, Any]:
    """The configuration of diffusers' T2IAdapter for a U-Net.

    Args:
        widths: channels of the U-Net's levels.
        factor: pixels to a latent.
        kind: "full" or "light".
        xl: for SDXL, whose first features meet the U-Net a level further down.
    """
    if xl:
        return {"adapter_type": "full_adapter_xl", "channels": [*widths, widths[-1]], "downscale_factor": 2 * factor}
    # The light adapter has a last level of the same width besides those that are named.
    channels = widths[:-1] if kind == "light" else widths
    return {"adapter_type": f"{kind}_adapter", "channels": channels, "downscale_factor": factor}
