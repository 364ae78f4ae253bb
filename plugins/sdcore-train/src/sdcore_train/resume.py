"""Checkpoints of a training: what goes in, and what must be the same to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint, list_checkpoints, read_checkpoint, read_facts, write_checkpoint
from .errors import CheckpointError, ConfigError
from .optim.state import optimizer_from_tensors, optimizer_to_tensors
from .prepare import Ready, checkpoints_folder
from .sharding import all_whole, like

if TYPE_CHECKING:
    from torch import Tensor

    from .config import TrainConfig
    from .job import Job

FREE = ("output", "checkpoints", "samples", "logging", "device", "threads", "distributed", "compile")
"""What may change when a training goes on."""
FREE_INSIDE = ("pictures.cache", "pictures.cache_folder", "pictures.prefetch", "pictures.workers", "captions.cache")


def save(ready: Ready, step: int) -> Path | None:
    """Write a checkpoint after ``step`` updates; only the main process does.

    Raises:
        CheckpointError: it cannot be written.
    """
    job = ready.job
    tensors, scalars = optimizer_to_tensors(_inner(ready.optimizer), job.parameters)
    files: dict[str, Mapping[str, Any]] = {"weights": all_whole(job.parameters), "optimizer": all_whole(tensors)}
    if ready.ema is not None:
        files["ema"] = all_whole(ready.ema.state())
    if not job.main:
        return None
    scaler = job.accelerator.scaler
    facts = {
        "config": job.config.model_dump(mode="json"),
        "data": job.data.fingerprint,
        "plugins": {label: dict(plugin.state(job)) for label, plugin in job.plugins},
        "optimizer": scalars,
        "scaler": None if scaler is None else scaler.state_dict(),
        "processes": job.accelerator.num_processes,
        "model": _untrained(job),
    }
    return write_checkpoint(checkpoints_folder(job.config), Checkpoint(step, files, facts), job.config.checkpoints.keep)


def load(ready: Ready) -> int:
    """Go on from the newest checkpoint; returns the updates that were done.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: it is of another training: what differs is named.
    """
    import torch

    job = ready.job
    where = newest(job.config)
    checkpoint = read_checkpoint(where)
    _same_config(checkpoint.facts["config"], job.config, where)
    if checkpoint.facts["model"] != _untrained(job):
        raise ConfigError(f"the model is not the one that {where} was trained on; use the same")
    before, now = checkpoint.facts["data"], job.data.fingerprint
    other = [name for name, value in now.items() if before.get(name) != value]
    if other:
        raise ConfigError(
            f"the data is not what it was when {where} was written: other {', '.join(other)}. Put them back, or start "
            "anew with another output folder"
        )
    for label, plugin in job.plugins:
        if checkpoint.facts["plugins"].get(label) != dict(plugin.state(job)):
            raise ConfigError(f"{label}: what it works with is not what it was when {where} was written")
    if checkpoint.facts["processes"] != job.accelerator.num_processes:
        raise ConfigError(
            f"{where} is of a training with {checkpoint.facts['processes']} processes, and this one has "
            f"{job.accelerator.num_processes}; start as many"
        )
    weights = checkpoint.tensors["weights"]
    parameters = job.parameters
    if set(weights) != set(parameters) or any(weights[n].shape != p.shape for n, p in parameters.items()):
        raise ConfigError(f"{where} is of other weights than those that would be trained; use the same model")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(like(weights[name], parameter))
    states = {name: _split(value, name, parameters) for name, value in checkpoint.tensors["optimizer"].items()}
    optimizer_from_tensors(_inner(ready.optimizer), parameters, states, checkpoint.facts["optimizer"])
    if ready.ema is not None:
        ready.ema.load({name: like(value, parameters[name]) for name, value in checkpoint.tensors["ema"].items()})
    if job.accelerator.scaler is not None and checkpoint.facts["scaler"]:
        job.accelerator.scaler.load_state_dict(checkpoint.facts["scaler"])
    return checkpoint.step


def newest(config: TrainConfig) -> Path:
    """The newest checkpoint of a training.

    Raises:
        CheckpointError: there is none.
    """
    found = list_checkpoints(checkpoints_folder(config))
    if not found:
        raise CheckpointError(f"there is no checkpoint in {checkpoints_folder(config)}; start without --resume")
    return found[-1][1]


def check_config(config: TrainConfig) -> None:
    """Find out before any work whether a training may go on with this configuration.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        ConfigError: it is of another training: what differs is named.
    """
    where = newest(config)
    _same_config(read_facts(where)["config"], config, where)


def _untrained(job: Job) -> dict[str, str]:
    """The hashes of the networks whose own weights all stay as they are."""
    trained = {id(parameter) for parameter in job.parameters.values()}
    names = [
        name
        for name, module in job.model.components.items()
        if not any(id(parameter) in trained for parameter in module.parameters())
    ]
    return {name: value for name, value in job.model.hashes().items() if name in names}


def _split(value: Tensor, name: str, parameters: Mapping[str, Tensor]) -> Tensor:
    """A tensor of an optimizer's state, in shards as its parameter is; its name is "parameter/key"."""
    parameter = parameters.get(name.rpartition("/")[0])
    return like(value, parameter) if parameter is not None and parameter.shape == value.shape else value


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)


def _same_config(before: Mapping[str, Any], config: TrainConfig, where: Path) -> None:
    now = config.model_dump(mode="json")
    free = set(FREE) | ({"steps", "epochs"} if config.schedule.name == "constant" else set())
    changed = [
        f"{name}: {_short(old)} before, {_short(new)} now"
        for name, old, new in _differences(before, now)
        if name.partition(".")[0] not in free and not name.startswith(FREE_INSIDE)
    ]
    if changed:
        raise ConfigError(
            f"the configuration is not that of {where}: {'; '.join(changed)}. Go on with the old values, or start "
            "anew with another output folder"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
