"""What is wrong with a data set."""

from __future__ import annotations

from sdcore import RequestError
from sdcore_train.errors import TrainingError


class DataError(TrainingError, RequestError):
    """The pictures or captions of a training cannot be used; says which, and what to do."""
