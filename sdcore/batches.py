"""Batches: what each gives, and how they become one result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .judging import by_severity, withheld, withhold
from .result import OnePicture, Result, WithheldPicture

if TYPE_CHECKING:
    from torch import Tensor

    from .request import GenerateRequest
    from .run import Run
    from .stages import Verdict


@dataclass(frozen=True)
class Batch:
    """What one batch gave.

    Attributes:
        latents: (pictures, channels, height, width), the withheld ones among them; None if all were withheld
            before the last step.
        items: for each of its pictures the picture, or what withheld it, or None where latents alone leave.
        lost: words of the prompt that did not fit.
    """

    latents: Tensor | None
    items: Sequence[OnePicture | WithheldPicture | None]
    lost: tuple[str, ...]


def kept_back(run: Run, verdicts: Iterable[Sequence[Verdict]]) -> list[WithheldPicture | None]:
    """The pictures of a run that checks of the previews have kept back; None for the others."""
    return [
        WithheldPicture(seed, index, by_severity(found)) if withheld(found) else None
        for index, seed, found in zip(run.indices, run.seeds, verdicts, strict=True)
    ]


def collect(request: GenerateRequest, batches: Sequence[Batch]) -> Result:
    """One result from all batches.

    Raises:
        Withheld: every picture was kept back.
    """
    import torch

    items = [item for batch in batches for item in batch.items]
    back = tuple(item for item in items if isinstance(item, WithheldPicture))
    if len(back) == len(items):
        raise withhold([verdict for item in back for verdict in item.verdicts])
    latents = [_released(batch) for batch in batches if batch.latents is not None]
    return Result(
        request,
        tuple(item for item in items if isinstance(item, OnePicture)),
        latents[0] if len(latents) == 1 else torch.cat(latents),
        back,
        tuple(dict.fromkeys(word for batch in batches for word in batch.lost)),
    )


def _released(batch: Batch) -> Tensor:
    assert batch.latents is not None
    kept = [place for place, item in enumerate(batch.items) if not isinstance(item, WithheldPicture)]
    return batch.latents if len(kept) == len(batch.items) else batch.latents[kept]
