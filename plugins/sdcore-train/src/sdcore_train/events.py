"""What training plugins and the callers of `train` are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Job


@dataclass(frozen=True, eq=False)
class TrainEvent:
    """Base of all events."""

    job: Job


@dataclass(frozen=True, eq=False)
class Began(TrainEvent):
    """Before the first step. ``start`` is not 0 where a training goes on."""

    start: int
    steps: int


@dataclass(frozen=True, eq=False)
class Updated(TrainEvent):
    """After an update of the weights: its index, the loss, its terms, the learning rate, the gradient's norm."""

    index: int
    loss: float
    terms: Mapping[str, float]
    rate: float
    norm: float


@dataclass(frozen=True, eq=False)
class Saved(TrainEvent):
    """A checkpoint was written."""

    index: int
    path: Path


@dataclass(frozen=True, eq=False)
class Sampled(TrainEvent):
    """Sample pictures were drawn."""

    index: int
    path: Path


@dataclass(frozen=True, eq=False)
class Ended(TrainEvent):
    """After everything was written."""

    files: tuple[Path, ...]
