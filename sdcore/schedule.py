"""Schedule: the timesteps of one run, and what noise level each of them has, as host floats."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import RequestError

if TYPE_CHECKING:
    from torch import Generator, Tensor


_TAKE = {"timesteps": "ddpm, euler, heun, dpmpp-2m, dpmpp-2s, lcm or tcd", "sigmas": "euler"}


class Schedule:
    """A scheduler that is set up, with the part of its timesteps that this run visits.

    Attributes:
        scheduler: diffusers' object, owned by this run.
        timesteps: training timesteps on the host, one per U-Net call.
        alphas, sigmas: ``latents = alpha * x0 + sigma * noise`` before each step.
        order: U-Net calls that belong to one step.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        *,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.order = int(getattr(scheduler, "order", 1))
        self._set(steps, timesteps, sigmas)
        self._arguments = frozenset(inspect.signature(scheduler.step).parameters)

    def _set(self, steps: int, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> None:
        name = type(self.scheduler).__name__
        accepted = inspect.signature(self.scheduler.set_timesteps).parameters
        # On the host: with device timesteps diffusers' schedulers wait for the device in every step.
        kwargs: dict[str, Any] = {"device": "cpu"}
        for key, values in (("timesteps", timesteps), ("sigmas", sigmas)):
            if values is not None:
                if key not in accepted or (key == "sigmas" and self._other_sigmas()):
                    raise RequestError(f"scheduler {name} takes no custom {key}; use {_TAKE[key]}, or leave them out")
                kwargs[key] = [value for value in values if value > 0] if key == "sigmas" else list(values)
        if len(kwargs) == 1:
            kwargs["num_inference_steps"] = steps
            most = getattr(self.scheduler.config, "num_train_timesteps", steps)
            if steps > most:  # some schedulers would visit one timestep again and again
                raise RequestError(f"{steps} steps are more than the {most} timesteps of the noise schedule; use fewer")
            distilled = getattr(self.scheduler.config, "original_inference_steps", steps)
            if steps > distilled:
                raise RequestError(f"scheduler {name} does at most {distilled} steps, and is for 1 to 8; use fewer")
        try:
            self.scheduler.set_timesteps(**kwargs)
            if sigmas is not None and len(self.scheduler.timesteps) < len(kwargs["sigmas"]):
                # Euler takes the last of them for the end, and would leave its noise in the picture.
                self.scheduler.set_timesteps(**kwargs | {"sigmas": [*kwargs["sigmas"], 0.0]})
        except (ValueError, IndexError, AssertionError) as error:
            raise RequestError(f"scheduler {name} cannot do {steps} steps with these settings: {error}") from error
        self._check_levels(name, steps)
        self.steps = steps if "num_inference_steps" in kwargs else len(self.scheduler.timesteps)
        # Told where it begins, the scheduler need not look for its place by a timestep that may occur twice.
        self._begin(0, len(self.scheduler.timesteps))

    def _other_sigmas(self) -> bool:
        """Whether what the scheduler calls sigmas are not noise levels (flow matching), or a ramp to them (EDM)."""
        config = self.scheduler.config
        return hasattr(self.scheduler, "precondition_outputs") or getattr(config, "use_flow_sigmas", None) is False

    def _check_levels(self, name: str, steps: int) -> None:
        """Refuse what diffusers' schedulers take and then fail at, or answer with NaN."""
        visited = self.scheduler.timesteps
        known = getattr(self.scheduler.config, "num_train_timesteps", None)
        if known is not None and float(visited.max()) > known - 1:
            raise RequestError(
                f"scheduler {name} cannot do {steps} steps with these settings: it would visit timestep "
                f"{float(visited.max()):g}, and the last one is {known - 1}; use fewer steps"
            )
        sigmas = getattr(self.scheduler, "sigmas", None)
        if sigmas is None or self.order > 1 or len(sigmas) != len(visited) + 1:
            return
        if bool((sigmas[:-2] == sigmas[1:-1]).any()) or sigmas[0] == sigmas[-1]:
            raise RequestError(
                f"scheduler {name} cannot do {steps} steps with these settings: two of them would have the same "
                "noise level; use another number of steps"
            )

    # -- choosing the part that is visited --------------------------------------------------------------

    def begin_at_strength(self, strength: float) -> None:
        """Keep the last ``strength`` of the steps (image to image)."""
        wanted = min(int(self.steps * strength), self.steps)
        if wanted == 0 and strength > 0:
            raise RequestError(
                f"strength {strength} of {self.steps} steps leaves no step; use at least strength "
                f"{math.ceil(1000 / self.steps) / 1000:g}, more steps, or strength 0 to keep the picture"
            )
        start = max(self.steps - wanted, 0) * self.order
        if wanted == 0:
            start = self._range[1]  # PNDM visits one timestep more than it has steps
        self._begin(start, self._range[1])

    def begin_at(self, fraction: float) -> None:
        """Start at a fraction of the training range (the second model of a hand-over)."""
        cutoff = self._cutoff(fraction)
        remaining = int((self.scheduler.timesteps < cutoff).sum())
        if self.order == 2 and remaining % 2 == 0:
            remaining += 1  # never between the two halves of a second-order step
        start = len(self.scheduler.timesteps) - remaining
        self._begin(start, self._range[1])

    def end_at(self, fraction: float) -> None:
        """Stop at a fraction of the training range, leaving noise for the next model."""
        first, last = self._range
        cutoff = self._cutoff(fraction)
        kept = int((self.scheduler.timesteps[first:last] >= cutoff).sum())
        self._begin(first, first + kept)

    def choose(self, timesteps: Sequence[float]) -> None:
        """Visit exactly these timesteps: a slice of the current ones, or, if the scheduler can, others."""
        current, wanted = list(self.timesteps), list(timesteps)
        if wanted == current:
            return
        first = self._range[0]
        for offset in range(len(current) - len(wanted) + 1):
            if current[offset : offset + len(wanted)] == wanted:
                self._begin(first + offset, first + offset + len(wanted))
                return
        self._set(len(wanted), [int(t) for t in wanted], None)

    def _cutoff(self, fraction: float) -> int:
        total: int = self.scheduler.config.num_train_timesteps
        return round(total - fraction * total)

    def _begin(self, first: int, last: int) -> None:
        self._range = (first, max(first, last))
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)

    # -- the numbers ------------------------------------------------------------------------------------

    @property
    def host_timesteps(self) -> Tensor:
        """The visited timesteps as a tensor on the host, in the scheduler's own dtype."""
        first, last = self._range
        tensor: Tensor = self.scheduler.timesteps[first:last]
        return tensor

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The visited timesteps."""
        return tuple(self.host_timesteps.tolist())

    @property
    def rates(self) -> tuple[tuple[float, float], ...]:
        """(alpha, sigma) before each visited step."""
        first, last = self._range
        ratios = self._noise_ratios()[first:last]
        if self.variance_exploding:
            return tuple((1.0, ratio) for ratio in ratios)
        return tuple((1.0 / (1.0 + ratio**2) ** 0.5, ratio / (1.0 + ratio**2) ** 0.5) for ratio in ratios)

    @property
    def variance_exploding(self) -> bool:
        """Whether latents are ``x0 + sigma * noise`` (k-diffusion) instead of variance preserving."""
        return hasattr(self.scheduler, "is_scale_input_called") or float(self.scheduler.init_noise_sigma) > 1.0001

    def _noise_ratios(self) -> list[float]:
        """sigma / alpha for every timestep of the scheduler."""
        count = len(self.scheduler.timesteps)
        known: Any = getattr(self.scheduler, "sigmas", None)
        if hasattr(self.scheduler, "sigmas_interpol"):  # DPM2: every second call lies between two levels
            between, back = self.scheduler.sigmas_interpol, int(hasattr(self.scheduler, "sigmas_down"))
            return [float(between[i - back] if i % 2 else known[i]) for i in range(count)]
        if hasattr(self.scheduler, "noise_sampler_seed"):  # DPM++ SDE: at their geometric mean
            return [float((known[i - 1] * known[i]) ** 0.5 if i % 2 else known[i]) for i in range(count)]
        if known is not None and len(known) == count + 1:
            return [float(value) for value in known[:-1]]
        import numpy as np

        # Where latents are on a GPU, diffusers' `add_noise` has taken the table there.
        cumulative = self.scheduler.alphas_cumprod.double().cpu().numpy()
        table = np.sqrt((1 - cumulative) / np.maximum(cumulative, 1e-12))
        points = self.scheduler.timesteps.double().numpy()
        return [float(v) for v in np.exp(np.interp(points, np.arange(len(table)), np.log(table)))]

    # -- the arithmetic, which is the scheduler's -------------------------------------------------------

    def scale_input(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """What the U-Net wants to see of the latents."""
        scaled: Tensor = self.scheduler.scale_model_input(latents, timestep)
        return scaled

    def pure_noise(self, noise: Tensor) -> Tensor:
        """Unit-variance noise as the loop starts from it when there is no picture in it."""
        latents: Tensor = noise * self.scheduler.init_noise_sigma
        return latents

    def add_noise(self, image: Tensor, noise: Tensor, index: int = 0) -> Tensor:
        """Clean latents noised as they are before a visited step; after the last one, the latents themselves.

        Args:
            image: clean latents (batch, channels, height, width).
            noise: unit-variance noise of the same shape.
            index: which visited step, from 0 to their number. At ``step.index + 1`` it gives what the kept part of an
                inpainted picture is when the step is over. (Between the two halves of a DPM2 step diffusers takes
                the level of its end, and so does this.)

        Raises:
            RequestError: the scheduler has no forward process (DDIM inversion).
        """
        timesteps = self.host_timesteps[index : index + 1].repeat(image.shape[0])
        if len(timesteps) == 0:
            return image
        scheduler = self.scheduler
        if not hasattr(scheduler, "add_noise"):
            raise RequestError(f"scheduler {type(scheduler).__name__} cannot add noise to a picture; use another one")
        # Schedulers that count their steps take the level of the step that they are at, whatever they are asked for.
        at = getattr(scheduler, "_step_index", None)
        if at is not None:
            scheduler._step_index = self._range[0] + index
        try:
            noised: Tensor = scheduler.add_noise(image, noise, timesteps)
        finally:
            if at is not None:
                scheduler._step_index = at
        return noised

    def check_eta(self, eta: float) -> None:
        """Refuse an eta that the scheduler would not see."""
        if eta and "eta" not in self._arguments:
            raise RequestError(
                f"eta is {eta}, but scheduler {type(self.scheduler).__name__} has none; use ddim or tcd, or eta 0"
            )

    def step_arguments(self, generators: list[Generator], seeds: Sequence[int], eta: float) -> dict[str, Any]:
        """Keyword arguments of the scheduler's ``step``."""
        self.check_eta(eta)
        if hasattr(self.scheduler, "noise_sampler_seed"):
            self.scheduler.noise_sampler_seed = list(seeds)  # else it draws one from the global generator
            # The ends of its interval are rounded, so that it finds the first and last step outside, by 1e-7.
            warnings.filterwarnings("ignore", "Should have t[ab01]", UserWarning, r"torchsde\.")
        arguments: dict[str, Any] = {"eta": eta} if "eta" in self._arguments else {}
        if "generator" in self._arguments:
            arguments["generator"] = generators
        return arguments

    def to_x0(self, output: Tensor, latents: Tensor, alpha: float, sigma: float) -> Tensor:
        """The predicted clean latents of a model output."""
        if hasattr(self.scheduler, "precondition_outputs"):
            x0: Tensor = self.scheduler.precondition_outputs(latents, output, sigma)
            return x0
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return output
        if kind == "v_prediction":
            norm = alpha**2 + sigma**2
            return (alpha * latents - sigma * math.sqrt(norm) * output) / norm
        return (latents - sigma * output) / alpha

    def from_x0(self, x0: Tensor, latents: Tensor, alpha: float, sigma: float) -> Tensor:
        """The model output that predicts ``x0``: the inverse of :meth:`to_x0`."""
        if hasattr(self.scheduler, "precondition_outputs"):
            data: float = self.scheduler.config.sigma_data
            skip = data**2 / (sigma**2 + data**2)
            sign = -1.0 if self.scheduler.config.prediction_type == "v_prediction" else 1.0
            return (x0 - skip * latents) * (sign * math.sqrt(sigma**2 + data**2) / (sigma * data))
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return x0
        if kind == "v_prediction":
            norm = alpha**2 + sigma**2
            return (alpha * latents - norm * x0) / (sigma * math.sqrt(norm))
        return (latents - alpha * x0) / sigma
