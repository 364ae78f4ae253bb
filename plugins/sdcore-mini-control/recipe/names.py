"""What captions say while the ControlNet learns: the picture's own, no name of the thing, or another thing's name.

With only its own captions the net leaves the shape to the name, which says it already, and where a control disagrees
with the name it loses. Captions of other pictures as they stand are no cure: their backgrounds are wrong too, and the
net learns to forget the prompt. So only the name is changed; style and background are always the picture's own. Colours
are the name's too: from a picture whose caption names another thing, the net learns its edges (by the term
``canny-consistency``) and little else.

What no caption tells must come from the control. ``canny-consistency`` decodes the first pictures of a batch, so those
get the other names, and the next ones none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field
from sdcore_train import Batch, ConfigError, Outcome, Training, ports
from sdcore_train.losses.distances import mse

from sdcore import Contributions, Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sdcore_train import Job
    from torch import Tensor


class Names(Options):
    """How often captions name what the picture does not show."""

    nameless: float = Field(default=0.2, ge=0, le=1, description="share of the captions that tell no name")
    other: float = Field(default=0.35, ge=0, le=1, description="share of the captions that name another thing")
    counted: float = Field(default=0.15, ge=0, le=1, description="what the squared error of these is multiplied by")


class NamesTraining(Training):
    """Changes the captions of batches, and how much the squared error counts where they name another thing."""

    name = "names"
    Options = Names
    about = "leave out or exchange the names in captions"
    options: Names

    def check(self, job: Job) -> Iterable[str]:
        """Both shares are of the same whole."""
        if self.options.nameless + self.options.other > 1:
            yield f"names: nameless {self.options.nameless} and other {self.options.other} are more than 1 together"

    def stages(self, job: Job) -> Contributions:
        """One stage of the batch, and the squared error."""
        try:
            said = {record.key: parts(record.captions[0]) for record in job.data.records}
        except ValueError as error:
            raise ConfigError(f"names: {error}") from None
        return [ports.batch(lambda _step, batch: self._batch(batch, said)), ports.loss(self._loss, phase="base")]

    def _batch(self, batch: Batch, said: Mapping[str, tuple[str, str]]) -> Batch:
        import torch

        others = round(self.options.other * len(batch))
        untold = others + round(self.options.nameless * len(batch))
        captions, counted = list(batch.captions), torch.ones(len(batch))
        for row, key in enumerate(batch.keys[:untold]):
            if not captions[row]:
                continue  # a dropped caption stays dropped
            _name, rest = said[key]
            if row < others:
                # Pictures come in no order, so the next is any other.
                captions[row] = f"{said[batch.keys[(row + 1) % len(batch)]][0]}, {rest}"
                counted[row] = self.options.counted
            else:
                captions[row] = rest
        return replace(batch, captions=tuple(captions), extra={**batch.extra, "names": counted})

    def _loss(self, outcome: Outcome) -> dict[str, Tensor]:
        error = mse(outcome.prediction.float(), outcome.target.float(), outcome.masks)
        return {"mse": error * outcome.batch.extra["names"].to(error)}


def parts(caption: str) -> tuple[str, str]:
    """The name and the rest of a full caption: ("an icon of a red apple", "flat style, white background").

    Raises:
        ValueError: it is not of that form.
    """
    name, *rest = caption.rsplit(", ", 2)
    if len(rest) != 2:
        raise ValueError(f"caption {caption!r} is not NAME, STYLE style, COLOUR background: use build_data.py's data")
    return name, ", ".join(rest)
