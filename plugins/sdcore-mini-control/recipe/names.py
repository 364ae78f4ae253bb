"""What captions say while the ControlNet learns: the picture's own, no name of the thing, or another thing's name.

With only its own captions the net leaves the shape to the name, which says it already, and where a control disagrees
with the name it loses. Captions of other pictures as they stand are no cure: their backgrounds are wrong too, and the
net learns to forget the prompt. So only the name is changed; style and background are always the picture's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field
from sdcore_train import Batch, ConfigError, Training, TrainStep, ports

from sdcore import Contributions, Options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdcore_train import Job


class Names(Options):
    """How often captions name what the picture does not show."""

    nameless: float = Field(default=0.3, ge=0, le=1, description="share of the captions that tell no name")
    other: float = Field(default=0.3, ge=0, le=1, description="share of the captions that name another thing")


class NamesTraining(Training):
    """Changes the captions of batches."""

    name = "names"
    Options = Names
    about = "leave out or exchange the names in captions"
    options: Names

    def check(self, job: Job) -> Iterable[str]:
        """Both shares are of the same whole."""
        if self.options.nameless + self.options.other > 1:
            yield f"names: nameless {self.options.nameless} and other {self.options.other} are more than 1 together"

    def stages(self, job: Job) -> Contributions:
        """One stage of the batch."""
        try:
            said = {record.key: parts(record.captions[0]) for record in job.data.records}
        except ValueError as error:
            raise ConfigError(f"names: {error}") from None
        return ports.batch(lambda step, batch: self._batch(step, batch, said))

    def _batch(self, step: TrainStep, batch: Batch, said: dict[str, tuple[str, str]]) -> Batch:
        import torch

        drawn = torch.rand(len(batch), generator=step.generator("names")).tolist()
        captions = [
            changed(caption, said[key], said[other][0], draw, self.options)
            for caption, key, other, draw in zip(
                batch.captions, batch.keys, (*batch.keys[1:], batch.keys[0]), drawn, strict=True
            )
        ]
        return replace(batch, captions=tuple(captions))


def parts(caption: str) -> tuple[str, str]:
    """The name and the rest of a full caption: ("an icon of a red apple", "flat style, white background").

    Raises:
        ValueError: it is not of that form.
    """
    name, *rest = caption.rsplit(", ", 2)
    if len(rest) != 2:
        raise ValueError(f"caption {caption!r} is not NAME, STYLE style, COLOUR background: use build_data.py's data")
    return name, ", ".join(rest)


def changed(caption: str, own: Sequence[str], other: str, draw: float, options: Names) -> str:
    """The caption of one visit.

    Args:
        caption: of the data set; one that was dropped ("") stays so.
        own: name and rest of the picture's full caption.
        other: another picture's name.
        draw: in [0, 1): decides.
        options: the shares.
    """
    if not caption or draw >= options.nameless + options.other:
        return caption
    return own[1] if draw < options.nameless else f"{other}, {own[1]}"
