"""Training of a whole model: the U-Net, its text encoders, or both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sdcore import Options
from sdcore_train.hooks import Training
from sdcore_train.model_folder import in_the_way, save_model
from sdcore_train.stages import Trained

if TYPE_CHECKING:
    from sdcore_train.job import Job


class Full(Options):
    """What of the model is trained."""

    unet: bool = Field(default=True, description="train the U-Net")
    text_encoder: bool = Field(default=False, description="train the text encoders")
    layers: Literal["all", "attention", "cross-attention"] = Field(
        default="all", description="which layers of the U-Net"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(default="float16", description="of the stored weights")


class FullTraining(Training):
    """Trains the networks of the model themselves; writes a model folder."""

    name = "full"
    Options = Full
    command = True
    writes_model = True
    about = "train the U-Net, the text encoders, or both"
    options: Full

    def check(self, job: Job) -> Iterable[str]:
        """Something must be trained."""
        if not (self.options.unet or self.options.text_encoder):
            yield "full: neither unet nor text_encoder is to be trained; set one of them"
        yield from in_the_way(job, "model")

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The chosen networks."""
        wanted = {"all": "", "attention": "attn", "cross-attention": "attn2"}[self.options.layers]
        for name, module in job.model.components.items():
            rate = None
            if name == "unet" and self.options.unet:
                found = {key: value for key, value in module.named_parameters() if wanted in key}
            elif name.startswith("text_encoder") and self.options.text_encoder:
                found = dict(module.named_parameters())
                rate = job.config.optimizer.text_encoder_learning_rate
            else:
                continue
            yield Trained(name, module, found, rate)

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The model as a folder, ``model``."""
        import torch

        dtype = getattr(torch, self.options.dtype)
        scheduler = {"prediction_type": job.prediction}
        yield save_model(job.model, folder / "model", dtype=dtype, scheduler=scheduler, before=job.before)
