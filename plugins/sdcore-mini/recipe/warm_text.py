"""The training plugin ``warm-text``: the text encoder learns to say what the latents of a picture are.

A linear layer on the text's last state predicts the mean latent. That is what the U-Net has to get out of the text
where all else is noise, at a fifteenth of the cost, so that it starts from a text encoder that tells things apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from sdcore_train import Batch, Outcome, Trained, Training, TrainStep, generator, ports, save_model

from sdcore import Contributions, Options

if TYPE_CHECKING:
    from sdcore_train import Job


class WarmText(Options):
    """How the text encoder is warmed up."""

    head_learning_rate: float = Field(default=2e-3, gt=0, description="of the linear layer")


class WarmTextTraining(Training):
    """Trains the text encoder and a head that is thrown away; writes a model folder."""

    name = "warm-text"
    Options = WarmText
    command = True
    about = "let the text encoder predict latents"
    options: WarmText

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The text encoder and the head."""
        import torch

        encoder: Any = job.model.text_encoders[0]
        height, width = (side // job.model.vae_scale_factor for side in job.size)
        self._shape = (job.model.latent_channels, height, width)
        head = torch.nn.Linear(encoder.config.hidden_size, job.model.latent_channels * height * width)
        with torch.no_grad():
            draw = generator(job.config.seed, "warm-text")
            head.weight.copy_(torch.randn(head.weight.shape, generator=draw) * 0.02)
            head.bias.zero_()
        yield Trained("text_encoder", encoder, dict(encoder.named_parameters()))
        yield Trained("warm_text_head", head, dict(head.named_parameters()), self.options.head_learning_rate)

    def stages(self, job: Job) -> Contributions:
        """Predict latents from text instead of noise from noise."""
        return ports.forward(self._forward)

    def _forward(self, step: TrainStep, batch: Batch) -> Outcome:
        job = step.job
        latents = job.latents_of(step, batch).to(job.device)
        context = job.text.conditioning(step, batch).context
        # The window is padded with end tokens, and all of them have seen the whole text.
        prediction = job.networks["warm_text_head"](context[:, -1]).view(-1, *self._shape)
        return Outcome(step, batch, prediction, latents, "sample")

    def samples(self, job: Job) -> Sequence[tuple[str, Sequence[Any]]]:
        """What the head says of some prompts, decoded."""
        import torch

        from sdcore.images import tensors_to_images

        vae: Any = job.model.vae
        rows = []
        with torch.no_grad():
            for prompt in job.config.samples.prompts:
                state = job.text.encode([prompt])["context"][:, -1]
                latents = job.networks["warm_text_head"](state).view(-1, *self._shape)
                pixels = vae.decode(latents / vae.config.scaling_factor).sample
                rows.append((prompt, tensors_to_images(pixels)))
        return rows

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The model with the text encoder as it is now."""
        import torch

        yield save_model(job.model, folder / "model", dtype=torch.float32)
