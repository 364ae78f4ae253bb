"""What goes wrong in a training, said so that it can be put right."""

from __future__ import annotations

from sdcore import RequestError, SdcoreError


class TrainingError(SdcoreError):
    """A training cannot begin, or had to stop."""


class ConfigError(TrainingError, RequestError):
    """The configuration is wrong; nothing was done."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, read, or gone on from."""


class DivergedError(TrainingError):
    """The loss or the gradient became NaN or infinite; the last good checkpoint stands."""
