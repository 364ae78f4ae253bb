"""From a configuration to a job that is ready for its first step. Whatever is wrong is said here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainConfig
from .errors import ConfigError, TrainingError
from .job import Job
from .plan import TrainingPlan
from .resolve import Plugins
from .stages import Trained
from .text import Text

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

    from .optim.ema import Ema


@dataclass(frozen=True, eq=False)
class Ready:
    """A prepared training.

    Attributes:
        job: the training.
        optimizer: over what is trained; wrapped by accelerate.
        rates: full learning rates of its groups.
        ema: the average of the weights, or None.
        steps: updates in all.
    """

    job: Job
    optimizer: Any
    rates: tuple[float, ...]
    ema: Ema | None
    steps: int


def load_job(
    config: TrainConfig,
    plugins: Plugins,
    say: Callable[[str], None],
    *,
    model: Any = None,
    progress: bool = True,
    dry: bool = False,
    destination: Path | None = None,
) -> Job:
    """Load the model and let the plugins look at it.

    Args:
        config: complete.
        plugins: in use.
        say: tells the user a line.
        model: instead of the configuration's, one that is in memory.
        progress: show bars on a terminal.
        dry: nothing is to be kept.
        destination: the output folder that was asked for, if the configuration names another.

    Raises:
        ConfigError: with everything that is wrong.
        ModelError: the model cannot be loaded.
    """
    from sdcore.models import load_model

    from .devices import make_accelerator
    from .monitor.tensorboard import check_tensorboard
    from .optim.optimizers import check_optimizer
    from .sampling import check_samples

    if not any(plugin.command for _, plugin in plugins):
        raise ConfigError("nothing is to be trained: `use` needs one of the methods, such as full, lora or vae")
    check_optimizer(config.optimizer)
    check_samples(config)
    if config.logging.tensorboard:
        check_tensorboard()
    accelerator = make_accelerator(config)
    lent = model is not None
    if model is None:
        model = load_model(config.model, device="cpu", dtype="float32")
    job = Job(config, model, plugins, accelerator, say, progress=progress, dry=dry, destination=destination)
    if lent:
        job.places = {name: next(module.parameters()).device for name, module in model.components.items()}
    problems = [problem for _, plugin in plugins for problem in plugin.check(job)]
    if model.task != "text":
        problems.append(f"the U-Net is one for the task {model.task!r}; only those that take text are trained")
    if job.prediction not in ("epsilon", "v_prediction", "sample"):
        problems.append(f"the model predicts {job.prediction!r}; known are epsilon, v_prediction and sample")
    if problems:
        raise ConfigError("; ".join(problems))
    return job


def prepare(job: Job) -> Ready:
    """Read the data, decide what is trained, make the optimizer.

    Raises:
        DataError: the data cannot be used.
        ConfigError, TrainingError: a plugin is at fault, or nothing is trained.
    """
    from .data import Data
    from .devices import place
    from .optim.ema import Ema
    from .optim.optimizers import make_optimizer, param_groups

    config = job.config
    for _, plugin in job.plugins:
        plugin.prepare(job)
    job.data = Data(
        config,
        size=job.size,
        multiple=multiple_of(job),
        say=job.say,
        processes=job.accelerator.num_processes,
        progress=job.progress,
        but=job.destination,
    )
    for module in job.model.components.values():
        module.requires_grad_(False)
        module.eval()
    job.trained = tuple(checked(one for _, plugin in job.plugins for one in plugin.parameters(job)))
    if not job.parameters:
        raise TrainingError("the plugins in use name no weights to train")
    place(job)
    job.plan = TrainingPlan(job.plugins, job)
    job.text = Text(job, [one.name for one in job.trained])
    groups = []
    for one in job.trained:
        rate = config.optimizer.learning_rate if one.learning_rate is None else one.learning_rate
        decay = config.optimizer.weight_decay if one.weight_decay is None else one.weight_decay
        groups += param_groups(one.parameters.items(), rate, decay, one.label or one.name)
    optimizer = job.accelerator.prepare(make_optimizer(config.optimizer, groups))
    ema = Ema(job.parameters, config.ema.decay, config.ema.warmup) if config.ema.decay else None
    steps = config.steps
    if steps is None:
        steps = max(1, round((config.epochs or 1.0) * job.data.batches_per_epoch / config.accumulate))
        if config.epochs is None:
            job.say(f"{steps} steps: once through the data, because neither steps nor epochs is set")
    return Ready(job, optimizer, tuple(group["lr"] for group in groups), ema, steps)


def fill_caches(job: Job) -> None:
    """Encode pictures, and remember captions, where neither changes while training."""
    from .caches import cache_latents, cache_text

    cache_latents(job)
    cache_text(job)


def multiple_of(job: Job) -> int:
    """Pixels that sizes must be multiples of: a latent's element is f pixels, and the U-Net halves it some times."""
    unet: Any = job.model.unet
    return int(job.model.vae_scale_factor * 2 ** (len(unet.config.block_out_channels) - 1))


def checked(found: Iterable[Trained]) -> Iterator[Trained]:
    """Entries of what is trained, their weights asked for gradients.

    Raises:
        TrainingError: two plugins train the same weights, or name two networks alike.
    """
    modules: dict[str, Module] = {}
    seen: set[int] = set()
    for one in found:
        if modules.setdefault(one.name, one.module) is not one.module:
            raise TrainingError(f"two plugins bring a network {one.name!r}; use one of them")
        for name, parameter in one.parameters.items():
            if id(parameter) in seen:
                raise TrainingError(f"{one.name}/{name} is given to be trained twice; use one of the plugins")
            seen.add(id(parameter))
            parameter.requires_grad_(True)
        yield one


def checkpoints_folder(config: TrainConfig) -> Path:
    """Where checkpoints are."""
    return Path(config.output) / "checkpoints"


def count(parameters: dict[str, torch.nn.Parameter]) -> int:
    """How many numbers."""
    return sum(parameter.numel() for parameter in parameters.values())
