"""From a planned batch to a :class:`~sdcore_train.records.Batch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sdcore_train.config import TrainConfig
from sdcore_train.records import Batch, Record

from .buckets import Size, fit
from .captions import caption_of_visit
from .draws import uniforms
from .errors import DataError
from .order import Planned
from .pixels import Arrays, read_arrays, to_masks, to_pixels, to_unit
from .shares import SharedPlan
from .skips import Skips

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: (2 c, h, w) float32 of the record with an index, mirrored or not; None if the picture is broken.
Latents = Callable[[int, bool], "Tensor | None"]

#: Decoded pictures are kept in memory up to this many bytes in all.
MEMORY = 1 << 30


class Visit(NamedTuple):
    """One picture of a batch, read."""

    record: Record
    arrays: Arrays
    moments: Tensor | None
    crop: tuple[int, int]
    caption: str


class Loader:
    """Reads batches. Several threads may use it at once.

    Args:
        config: of the training.
        records: all pictures.
        sizes: the bucket of each.
        skips: is told of pictures that turn out to be broken.
        say: is told the same.
    """

    def __init__(
        self,
        config: TrainConfig,
        records: Sequence[Record],
        sizes: Sequence[Size],
        skips: Skips,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._records = records
        self._sizes = sizes
        self._skips = skips
        self._say = say
        self._masks = any(record.mask for record in records)
        self._controls = any(record.control for record in records)
        self._broken: set[int] = set()
        self._kept: dict[int, Arrays] = {}
        self._room = MEMORY
        self._latents: Latents | None = None
        self._collected: list[tuple[int, str]] | None = None

    def batch(self, number: int, planned: Planned | SharedPlan, slots: range) -> Batch:
        """The part of a planned batch that lies in some of its slots.

        Raises:
            DataError: all pictures of the bucket are broken, or one is with ``pictures.broken = "error"``.
        """
        import torch

        visits = [self._visit(number, planned, slot) for slot in slots]
        size = self._sizes[planned.sequence[0]]
        arrays = [visit.arrays for visit in visits]
        pictures = [a.picture for a in arrays if a.picture is not None]
        moments = [visit.moments for visit in visits if visit.moments is not None]
        return Batch(
            number=number,
            keys=tuple(visit.record.key for visit in visits),
            captions=tuple(visit.caption for visit in visits),
            roles=tuple(visit.record.role for visit in visits),
            pixels=None if moments else to_pixels(pictures),
            moments=torch.stack(moments) if moments else None,
            masks=to_masks([a.mask for a in arrays], *size) if self._masks else None,
            controls=to_unit([_or_black(a.control, size) for a in arrays]) if self._controls else None,
            weights=torch.tensor([visit.record.weight for visit in visits], dtype=torch.float32),
            original_sizes=tuple(visit.record.size for visit in visits),
            crops=tuple(visit.crop for visit in visits),
            size=size,
        )

    def arrays(self, index: int) -> Arrays:
        """A record's pictures, resized and, where that is the same every time, cut to its bucket.

        Raises:
            OSError: one of them is broken.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        record, size = self._records[index], self._sizes[index]
        place = fit(record.size, size)
        found = read_arrays(record, place, picture=self._latents is None)
        if self._config.pictures.crop == "center":
            found = found.cut(place.top, place.left, *size)
        if found.nbytes <= self._room:
            self._room -= found.nbytes
            self._kept[index] = found
        return found

    def report(self, index: int, reason: str) -> None:
        """Take note of a broken picture; the first time it is said."""
        known = index in self._broken
        self._broken.add(index)
        if self._collected is not None:
            self._collected += [] if known else [(index, reason)]
            return
        key = self._records[index].key
        if self._skips.add(key, reason):
            self._say(f"{key} is left out: {reason}")

    def collect(self) -> list[tuple[int, str]]:
        """From now on broken pictures are put into this list instead: (index, reason). A process calls it."""
        self._collected = []
        return self._collected

    def picture(self, index: int) -> NDArray[Any]:
        """A record's picture, cut to the centre of its bucket: uint8 (height, width, 3); OSError if it is broken."""
        record, size = self._records[index], self._sizes[index]
        place = fit(record.size, size)
        picture = read_arrays(record, place, companions=False).cut(place.top, place.left, *size).picture
        assert picture is not None
        return picture

    def use_latents(self, latents: Latents) -> None:
        """From now on batches have moments, and no pixels; what is kept of decoded pictures is freed."""
        self._latents = latents
        self._kept.clear()
        self._room = MEMORY

    def _visit(self, number: int, planned: Planned | SharedPlan, slot: int) -> Visit:
        for index in planned.candidates(slot):
            if index in self._broken:
                continue
            try:
                found = self._read(index, number, slot)
            except OSError as error:
                self.report(index, str(error) or type(error).__name__)
                continue
            if found is not None:
                return found
        height, width = self._sizes[planned.sequence[0]]
        raise DataError(f"none of the pictures of {height}x{width} pixels can be read: see what was said about them")

    def _read(self, index: int, number: int, slot: int) -> Visit | None:
        config, record, size = self._config, self._records[index], self._sizes[index]
        flip, down, across = uniforms(3, "picture", config.seed, number, slot)
        mirrored = config.pictures.flip and flip < 0.5
        arrays, moments = Arrays(None, None, None), None
        if self._latents is not None:
            moments = self._latents(index, mirrored)
            if moments is None:
                return None
        if self._latents is None or record.mask or record.control:
            arrays = self.arrays(index)
        if config.pictures.crop == "center":
            place = fit(record.size, size)
        else:
            place = fit(record.size, size, across, down)
            arrays = arrays.cut(place.top, place.left, *size)
        left = place.resized[1] - size[1] - place.left if mirrored else place.left
        caption = caption_of_visit(record.captions, config.captions, config.seed, number, slot)
        return Visit(record, arrays.mirrored() if mirrored else arrays, moments, (place.top, left), caption)


def _or_black(control: Any, size: Size) -> Any:
    import numpy as np

    return np.zeros((*size, 3), np.uint8) if control is None else control
