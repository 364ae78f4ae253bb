"""The trainer of sdcore: ``train(TrainConfig(...))``, or ``sdcore train METHOD --config file.toml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, ConfigError, DivergedError, TrainingError
from .hooks import Training
from .plugin import TrainPlugin
from .records import Batch, Record

if TYPE_CHECKING:
    from .config import Source as Source
    from .config import TrainConfig as TrainConfig
    from .job import Job as Job
    from .methods.full import Full as Full
    from .methods.vae import VAE as VAE
    from .model_folder import in_the_way as in_the_way
    from .model_folder import save_model as save_model
    from .model_folder import save_network as save_network
    from .randomness import generator as generator
    from .resolve import changed as changed
    from .resolve import known_plugins as known_plugins
    from .stages import Outcome as Outcome
    from .stages import Trained as Trained
    from .stages import TrainStep as TrainStep
    from .stages import UNetArgs as UNetArgs
    from .trainer import train as train
    from .trial import dry_run as dry_run

_HOME = {
    "Source": "config",
    "TrainConfig": "config",
    "changed": "resolve",
    "known_plugins": "resolve",
    "Full": "methods.full",
    "Job": "job",
    "Outcome": "stages",
    "TrainStep": "stages",
    "Trained": "stages",
    "UNetArgs": "stages",
    "VAE": "methods.vae",
    "in_the_way": "model_folder",
    "save_model": "model_folder",
    "save_network": "model_folder",
    "dry_run": "trial",
    "generator": "randomness",
    "train": "trainer",
}

__all__ = [
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DivergedError",
    "Full",
    "Job",
    "Outcome",
    "Record",
    "Source",
    "TrainConfig",
    "TrainPlugin",
    "TrainStep",
    "Trained",
    "Training",
    "TrainingError",
    "UNetArgs",
    "VAE",
    "changed",
    "dry_run",
    "generator",
    "known_plugins",
    "in_the_way",
    "save_model",
    "save_network",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'sdcore_train' has no attribute {name!r}")
