"""Weights of the loss by timestep, and other distances than the squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sdcore import Contributions, Options
from sdcore_train import ports
from sdcore_train.hooks import Training
from sdcore_train.lazy import losses as functions
from sdcore_train.stages import Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore_train.job import Job


class MinSNR(Options):
    """Weights that keep any timestep from dominating (arXiv 2303.09556)."""

    gamma: float = Field(default=5.0, gt=0, description="largest signal-to-noise ratio that counts")


class MinSNRTraining(Training):
    """Weights the loss by min(SNR, gamma)."""

    name = "min-snr"
    Options = MinSNR
    about = "weight timesteps by min(SNR, gamma)"
    options: MinSNR

    def stages(self, job: Job) -> Contributions:
        """One stage of loss_weights."""
        return ports.loss_weights(self._weigh)

    def _weigh(self, outcome: Outcome, weights: Tensor) -> Tensor | None:
        if outcome.snr is None:
            return None
        return weights * functions.min_snr_weight(outcome.snr, self.options.gamma, outcome.kind)  # type: ignore[arg-type]


class Debiased(Options):
    """Weights 1 / sqrt(SNR) (arXiv 2310.08442)."""

    limit: float = Field(default=1000.0, gt=1, description="ratios beyond it, and below its inverse, are cut")


class DebiasedTraining(Training):
    """Weights the loss by the debiased estimation."""

    name = "debiased"
    Options = Debiased
    about = "weight timesteps by 1 / sqrt(SNR)"
    options: Debiased

    def stages(self, job: Job) -> Contributions:
        """One stage of loss_weights."""
        return ports.loss_weights(self._weigh)

    def _weigh(self, outcome: Outcome, weights: Tensor) -> Tensor | None:
        if outcome.snr is None:
            return None
        return weights * functions.debiased_weight(outcome.snr, outcome.kind, self.options.limit)  # type: ignore[arg-type]


class Huber(Options):
    """The pseudo-Huber loss instead of the squared error (arXiv 2403.16728)."""

    threshold: float = Field(default=0.1, gt=0, le=1, description="at the noisiest timestep: where it turns linear")
    schedule: Literal["constant", "exponential", "snr"] = Field(default="snr", description="how the threshold goes")


class HuberTraining(Training):
    """Replaces the squared error."""

    name = "huber"
    Options = Huber
    about = "pseudo-Huber loss instead of the squared error"
    options: Huber

    def stages(self, job: Job) -> Contributions:
        """One stage of loss, as its base."""
        table = job.alphas_cumprod

        def loss(outcome: Outcome) -> Tensor:
            threshold: Tensor | float = self.options.threshold
            if outcome.timesteps is not None:
                threshold = functions.huber_threshold(
                    self.options.schedule, self.options.threshold, outcome.timesteps, table
                )
            return functions.huber(outcome.prediction.float(), outcome.target.float(), threshold, outcome.masks)

        return ports.loss(loss, phase="base")


class Wavelet(Options):
    """The squared error in Haar bands, with details weighted (arXiv 2503.18352)."""

    weight: float = Field(default=1.0, gt=0, description="of this term")
    detail: float = Field(default=2.0, ge=0, description="how much more the details count")
    levels: int = Field(default=1, ge=1, le=4, description="how often the coarse band is split")


class WaveletTraining(Training):
    """Adds a term."""

    name = "wavelet"
    Options = Wavelet
    about = "add the squared error in wavelet bands"
    options: Wavelet

    def stages(self, job: Job) -> Contributions:
        """One term of the loss."""
        chosen = self.options

        def loss(outcome: Outcome) -> Tensor:
            return chosen.weight * functions.wavelet(
                outcome.prediction.float(), outcome.target.float(), chosen.detail, chosen.levels, outcome.masks
            )

        return ports.loss(loss)
