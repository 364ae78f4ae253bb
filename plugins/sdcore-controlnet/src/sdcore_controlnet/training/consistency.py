"""The training ``canny-consistency``: edges of what the net draws are those of its control (after arXiv 2404.07987)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sdcore_train import Outcome, Training, ports
from sdcore_train.diffusion import to_x0

from sdcore import Contributions

from .options import CannyConsistency, TrainControl

if TYPE_CHECKING:
    from sdcore_train import Job
    from torch import Tensor

CONTROLNETS = ("controlnet", "t2i-adapter")


class CannyConsistencyTraining(Training):
    """Adds a term."""

    name = "canny-consistency"
    Options = CannyConsistency
    about = "decode what is predicted and compare its edges with the control's"
    options: CannyConsistency

    def check(self, job: Job) -> Iterable[str]:
        """There must be a net whose control pictures are edges."""
        found = {plugin.name: plugin for _, plugin in job.plugins}
        net = next((found[name] for name in CONTROLNETS if name in found), None)
        if net is None:
            yield f"{self.name}: there are no control pictures without {' or '.join(CONTROLNETS)}"
            return
        assert isinstance(net.options, TrainControl)
        if net.options.preprocess not in (None, "canny"):
            yield f"{self.name}: control pictures must be edges of canny, and preprocess is {net.options.preprocess!r}"

    def stages(self, job: Job) -> Contributions:
        """One term of the loss."""
        return ports.loss(self._loss)

    def _loss(self, outcome: Outcome) -> Tensor:
        import torch

        from .soft_edges import disagreement

        assert outcome.noisy is not None
        assert outcome.timesteps is not None
        job, batch = outcome.step.job, outcome.batch
        count = min(len(batch), self.options.pictures)
        control = next(batch.extra[name] for name in CONTROLNETS if name in batch.extra)[:count]
        table, steps = job.alphas_cumprod, outcome.timesteps[:count]
        prediction, noisy = outcome.prediction[:count].float(), outcome.noisy[:count].float()
        latents = to_x0(outcome.kind, prediction, noisy, table, steps)
        found = disagreement(
            decoded(job, latents), control.to(latents).mean(1, keepdim=True) > 0.5, self.options.low, self.options.high
        )
        # Predictions from much noise say little: x0 has 1 / sqrt(alpha) of their error.
        weighted = self.options.weight * table.to(found)[steps].sqrt() * found
        return torch.cat([weighted, weighted.new_zeros(len(batch) - count)]) * (len(batch) / count)


def decoded(job: Job, latents: Tensor) -> Tensor:
    """Pictures (n, 3, height, width) of scaled latents, about [-1, 1], through which gradients flow."""
    import torch

    vae: Any = job.model.vae
    device = job.device.type
    # float16 overflows in the codecs of SD1 and SDXL.
    halved = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    with torch.autocast(device, dtype=torch.bfloat16, enabled=halved):
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        pictures: Tensor = vae.decode(latents / vae.config.scaling_factor + shift, return_dict=False)[0]
    return pictures.float()
