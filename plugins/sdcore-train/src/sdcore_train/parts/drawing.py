"""What is drawn in each step: noise and timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sdcore import Contributions, Options
from sdcore_train import ports
from sdcore_train.hooks import Training
from sdcore_train.lazy import losses as functions
from sdcore_train.stages import NoiseArgs, TrainStep

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from sdcore_train.job import Job


class NoiseOffset(Options):
    """A constant added to each channel of the noise, so that very dark and bright pictures can be learnt."""

    strength: float = Field(default=0.05, gt=0, le=1, description="standard deviation of the constants")


class NoiseOffsetTraining(Training):
    """Changes the noise."""

    name = "noise-offset"
    Options = NoiseOffset
    about = "add a constant to the noise of each channel"
    options: NoiseOffset

    def stages(self, job: Job) -> Contributions:
        """One stage of noise."""
        return ports.noise(lambda args, noise: functions.offset_noise(noise, self.options.strength, args.generator))


class PyramidNoise(Options):
    """Noise of several resolutions."""

    discount: float = Field(default=0.3, ge=0, lt=1, description="weight of each level relative to the one before")


class PyramidNoiseTraining(Training):
    """Changes the noise."""

    name = "pyramid-noise"
    Options = PyramidNoise
    about = "add noise of lower resolutions"
    options: PyramidNoise

    def stages(self, job: Job) -> Contributions:
        """One stage of noise."""
        return ports.noise(lambda args, noise: functions.pyramid_noise(noise, self.options.discount, args.generator))


class InputPerturbation(Options):
    """More noise in the input than in the target (arXiv 2301.11706)."""

    strength: float = Field(default=0.1, gt=0, le=1, description="standard deviation of what is added")


class InputPerturbationTraining(Training):
    """Changes the noise of the input."""

    name = "input-perturbation"
    Options = InputPerturbation
    about = "perturb the input's noise, so that sampling errors are seen in training"
    options: InputPerturbation

    def stages(self, job: Job) -> Contributions:
        """One stage of noisy."""

        def perturb(args: NoiseArgs, noise: Tensor) -> Tensor:
            return functions.input_perturbation(noise, self.options.strength, args.generator)

        return ports.noisy(perturb)


class Timesteps(Options):
    """How timesteps are drawn."""

    distribution: Literal["uniform", "stratified", "logit-normal"] = Field(
        default="stratified", description="of timesteps"
    )
    mean: float = Field(default=0.0, ge=-5, le=5, description="of logit-normal; above 0 favours noisy timesteps")
    scale: float = Field(default=1.0, gt=0, le=10, description="of logit-normal: its standard deviation")
    start: float = Field(default=0.0, ge=0, lt=1, description="share of the timesteps below which none is drawn")
    end: float = Field(default=1.0, gt=0, le=1, description="share of the timesteps above which none is drawn")


class TimestepsTraining(Training):
    """Claims the port timesteps."""

    name = "timesteps"
    Options = Timesteps
    about = "draw timesteps stratified, logit-normal, or from a range"
    options: Timesteps

    def check(self, job: Job) -> Iterable[str]:
        """The range must hold something."""
        if self._range(job)[0] >= self._range(job)[1]:
            yield f"timesteps: start {self.options.start} and end {self.options.end} leave no timestep"

    def stages(self, job: Job) -> Contributions:
        """The claim."""
        low, high = self._range(job)
        chosen, total = self.options, len(job.alphas_cumprod)

        def draw(_step: TrainStep, count: int, generator: Generator) -> Tensor:
            if chosen.distribution == "logit-normal":
                return functions.logit_normal_timesteps(count, total, generator, chosen.mean, chosen.scale, low, high)
            pick = (
                functions.stratified_timesteps if chosen.distribution == "stratified" else functions.uniform_timesteps
            )
            return pick(count, total, generator, low, high)

        return ports.timesteps(draw)

    def _range(self, job: Job) -> tuple[int, int]:
        total = len(job.alphas_cumprod)
        return round(self.options.start * total), round(self.options.end * total)
