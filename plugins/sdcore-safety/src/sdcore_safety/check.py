"""Check: what a safety check is, for those who write one.

A check gives scores between 0 and 1 for the categories that it knows; the policy compares them with thresholds. 0.5 is
where the check's own authors, or its calibration, put the border, so that thresholds mean the same for all checks.
Register a class, or its place as text, under the kind ``safety_check``::

    class Skulls(ImageCheck):
        name, version, categories = "skulls", "1", ("violence",)

        def score(self, image):
            return {"violence": probability_of_a_skull(image)}

    registry.add("safety_check", "skulls", "my_package.skulls:Skulls")

and users name it: ``Safety(checks=("blocklist", "nsfwjs", "skulls"))``. A check that raises, gives a score that is no
number, or does not answer in time counts as the most severe verdict.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.models import Model

Stage = Literal["prompt", "preview", "image"]
KIND = "safety_check"


@dataclass(frozen=True)
class CheckSettings:
    """What a check is made from.

    Attributes:
        model: the engine's model, or None where pictures are judged without one.
        values: the check's own settings: ``Safety(settings={"skulls": {...}})``.
    """

    model: Model | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Check(abc.ABC):
    """Base of all checks; subclass :class:`PromptCheck` or :class:`ImageCheck`.

    Attributes:
        name: as users write it.
        version: changes whenever the same subject may get another score.
        stage: ``"prompt"`` or ``"image"``.
        categories: what it gives scores for.
        early: for image checks: also asked about the predicted picture amid the steps.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    stage: ClassVar[Literal["prompt", "image"]]
    categories: ClassVar[tuple[str, ...]] = ()
    early: ClassVar[bool] = False

    def __init__(self, settings: CheckSettings) -> None:
        """Load what is needed. Raise whatever is wrong: it is reported with the check's name."""
        self.settings = settings

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights that give the scores, or None for a check without weights."""
        return None


class PromptCheck(Check):
    """A check of prompts, before anything is drawn."""

    stage = "prompt"

    @abc.abstractmethod
    def score(self, text: str) -> Mapping[str, float]:
        """Category to score, 0 to 1, of one text. Categories left out count as 0."""


class ImageCheck(Check):
    """A check of pictures: RGB, any size."""

    stage = "image"
    early = True

    @abc.abstractmethod
    def score(self, image: Image) -> Mapping[str, float]:
        """Category to score, 0 to 1, of one picture. Categories left out count as 0."""

    def score_many(self, images: Sequence[Image]) -> list[Mapping[str, float]]:
        """The scores of several pictures; override it where a batch is faster."""
        return [self.score(image) for image in images]


def check_class(value: Any) -> type[Check]:
    """The class that is registered, imported where it is named as text.

    Raises:
        TypeError: it is no check.
    """
    if isinstance(value, str):
        module, _, name = value.partition(":")
        value = getattr(importlib.import_module(module), name)
    if not (isinstance(value, type) and issubclass(value, (PromptCheck, ImageCheck))):
        raise TypeError(f"{value!r} is registered as a safety check; it must be a PromptCheck or an ImageCheck")
    return value
