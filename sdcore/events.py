"""Events: what ``engine.stream`` yields and what ``observe`` sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from .result import Result
    from .run import Run
    from .stages import Step


@dataclass(frozen=True)
class Event:
    """Base of all events. ``run.cancel()`` stops the run before its next U-Net call."""

    run: Run


@dataclass(frozen=True)
class Started(Event):
    """A batch begins: ``batch`` of ``batches``, with this many ``steps``.

    One that did not fit into memory begins once more, smaller, and ``batches`` has grown.
    """

    batch: int
    batches: int
    steps: int


@dataclass(frozen=True)
class Stepped(Event):
    """A step is done. ``preview()`` decodes a small picture of the predicted result (one per seed)."""

    step: Step
    _preview: Callable[[], list[Image]] = field(repr=False)

    def preview(self) -> list[Image]:
        """Pictures of the predicted x0, at most 256 pixels a side; computed when called.

        Returns an empty list where a policy forbids previews.
        """
        return self._preview()


@dataclass(frozen=True)
class Warned(Event):
    """Something that the user should know and that does not stop the run."""

    message: str


@dataclass(frozen=True)
class Finished(Event):
    """The request is done."""

    result: Result
