"""Job: one training while it runs; what plugins and stages are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainConfig
from .diffusion import sample_moments
from .errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

    from sdcore.models import Model

    from .data import Data
    from .plan import TrainingPlan
    from .records import Batch
    from .resolve import Plugins
    from .stages import Trained, TrainStep
    from .text import Text


class Job:
    """One training.

    Attributes:
        config: the complete configuration.
        model: what is trained, as sdcore loads it.
        output: the folder that everything is written to.
        plugins: (label, plugin) of everything that takes part.
        networks: by name, as stages must call them (wrapped where several processes share the work).
        trained: what plugins asked to have trained.
        data: the pictures; None before they are read.
        plan: the stages.
        text: captions to conditioning.
        accelerator: of the library accelerate.
        prediction: "epsilon", "v_prediction" or "sample".
        alphas_cumprod: (training timesteps,) float32, on the CPU.
        dtype: of the latents and of what the U-Net is given.
        state: for plugins that have something to tell each other.
        say: tells the user a line.
        progress: whether bars are shown on a terminal.
        dry: whether this is only a trial, of which nothing is kept.
        destination: the output folder that was asked for; in a trial, ``output`` is another.
        before: by "network/weight", weights as they were before they were rounded to a smaller type for the training.
        places: by network, the device that it is given back on; of a model that is lent.
    """

    data: Data
    plan: TrainingPlan
    text: Text

    def __init__(
        self,
        config: TrainConfig,
        model: Model,
        plugins: Plugins,
        accelerator: Any,
        say: Callable[[str], None] = print,
        *,
        progress: bool = True,
        dry: bool = False,
        destination: Path | None = None,
    ) -> None:
        import torch

        self.config = config
        self.model = model
        self.output = Path(config.output)
        self.plugins = plugins
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.process: int = accelerator.process_index
        self.networks: dict[str, Module] = dict(model.components)
        self.trained: tuple[Trained, ...] = ()
        self.dtype = torch.float32
        self.prediction = config.prediction or model.scheduler_config.get("prediction_type", "epsilon")
        self.alphas_cumprod = alphas_of(model.scheduler_config)
        self.state: dict[Any, Any] = {}
        self.say = say
        self.progress = progress
        self.dry = dry
        self.destination = destination or self.output
        self.before: dict[str, Tensor] = {}
        self.places: dict[str, torch.device] = {}

    @property
    def main(self) -> bool:
        """Whether this process writes files and tells the user."""
        return bool(self.accelerator.is_main_process)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels that the configuration asks for, or the model's own."""
        pictures = self.config.pictures
        own: Any = self.model.unet.config.sample_size
        rows, columns = own if isinstance(own, list | tuple) else (own, own)
        height = pictures.height or rows * self.model.vae_scale_factor
        return height, pictures.width or (height if pictures.height else columns * self.model.vae_scale_factor)

    def trains(self, name: str) -> bool:
        """Whether any weight of a network is trained."""
        return any(one.name == name for one in self.trained)

    def moments_of(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] to mean and log-variance (n, 2 c, h/f, w/f) of the unscaled latent, float32."""
        import torch

        vae: Any = self.model.vae
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            encoded = vae.encode(pixels.to(vae.device, vae.dtype))
            if hasattr(encoded, "latent_dist"):
                return encoded.latent_dist.parameters.float()  # type: ignore[no-any-return]
            return torch.cat([encoded.latents, torch.full_like(encoded.latents, -30.0)], dim=1).float()

    def latents_of(self, step: TrainStep, batch: Batch) -> Tensor:
        """The scaled latents of a batch, drawn from the Gaussian of the VAE's encoder."""
        moments = batch.moments
        if moments is None:
            if batch.pixels is None:
                raise TrainingError("a batch has neither pixels nor moments")
            moments = self.moments_of(batch.pixels)
        config: Any = self.model.vae.config
        return sample_moments(
            moments.to(self.device),
            step.generator("posterior"),
            config.scaling_factor,
            getattr(config, "shift_factor", None) or 0.0,
        )

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Everything that is trained, by "network/parameter"."""
        return {f"{one.name}/{name}": value for one in self.trained for name, value in one.parameters.items()}

    def close(self) -> None:
        """Let the plugins put the model back as it was found."""
        from .devices import restore

        trained = {id(parameter) for parameter in self.parameters.values()}
        restore(self)  # first: plugins may have put layers in between since, and take them out
        for _, plugin in reversed(self.plugins):
            plugin.close(self)
        for name, module in self.model.components.items():
            if not self.dry and any(id(parameter) in trained for parameter in module.parameters()):
                self.model.weights_changed(name)
            module.requires_grad_(False)
            module.eval()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, networks are in eval mode, as the engine expects them."""
        modules = list(self.model.components.values()) + [one.module for one in self.trained]
        before = [module.training for module in modules]
        try:
            for module in modules:
                module.eval()
            yield
        finally:
            for module, mode in zip(modules, before, strict=True):
                module.train(mode)


def alphas_of(scheduler_config: dict[str, Any]) -> Tensor:
    """The cumulative products of 1 - beta that a scheduler's configuration describes, float32 (T,)."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    known = {name: scheduler_config[name] for name in names if scheduler_config.get(name) is not None}
    return DDIMScheduler(**known).alphas_cumprod  # type: ignore[no-any-return]
