"""Terms of the loss in features: of VGG16 for the VAE, of a frozen copy of the U-Net for diffusion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sdcore import Asset, Contributions, Options
from sdcore_train import ports
from sdcore_train.hooks import Training
from sdcore_train.stages import Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore_train.job import Job


class Perceptual(Options):
    """LPIPS between the VAE's reconstruction and the picture (arXiv 1801.03924)."""

    weights: Asset = Field(description="safetensors file with VGG16, as sdcore_train.losses.vgg_weights writes it")
    weight: float = Field(default=0.1, gt=0, description="of this term")


class PerceptualTraining(Training):
    """Adds a term."""

    name = "perceptual"
    Options = Perceptual
    about = "add LPIPS (VGG16) to the loss of the VAE"
    options: Perceptual

    def check(self, job: Job) -> Iterable[str]:
        """It compares pictures."""
        if not any(plugin.name == "vae" for _, plugin in job.plugins):
            yield "perceptual: it compares pictures, and only `vae` makes them; use self-perceptual for a U-Net"

    def stages(self, job: Job) -> Contributions:
        """One term of the loss."""
        from sdcore_train.losses.perceptual import Lpips

        distance = Lpips.load(self.options.weights).to(job.device).requires_grad_(False)

        def loss(outcome: Outcome) -> Tensor:
            found: Tensor = distance(outcome.prediction.float(), outcome.target.float(), outcome.masks)
            return self.options.weight * found

        return ports.loss(loss)


class SelfPerceptual(Options):
    """The features of a frozen copy of the U-Net as a distance of predicted and true latents (arXiv 2401.00110)."""

    weight: float = Field(default=0.1, gt=0, description="of this term")


class SelfPerceptualTraining(Training):
    """Adds a term."""

    name = "self-perceptual"
    Options = SelfPerceptual
    about = "add the distance in features of a frozen copy of the U-Net"
    options: SelfPerceptual

    def stages(self, job: Job) -> Contributions:
        """One term of the loss."""
        import copy

        from sdcore_train.diffusion import to_x0
        from sdcore_train.losses.perceptual import mid_block_features, self_perceptual

        frozen: Any = copy.deepcopy(job.model.unet).requires_grad_(False).eval()

        def loss(outcome: Outcome) -> Tensor | None:
            latents, conditioning = outcome.latents, outcome.conditioning
            if latents is None or conditioning is None or outcome.noisy is None or outcome.timesteps is None:
                return None
            added: dict[str, Any] = {}
            if conditioning.pooled is not None:
                added["added_cond_kwargs"] = {
                    "text_embeds": conditioning.pooled.detach(),
                    "time_ids": conditioning.time_ids,
                }
            context = conditioning.context.detach()

            def features(noisy: Tensor, timesteps: Tensor) -> Tensor:
                return mid_block_features(frozen, noisy, timesteps, context, **added)

            x0 = to_x0(outcome.kind, outcome.prediction, outcome.noisy, job.alphas_cumprod, outcome.timesteps)
            draw = outcome.step.generator("self-perceptual")
            return self.options.weight * self_perceptual(x0, latents, features, job.alphas_cumprod, draw)

        return ports.loss(loss)
