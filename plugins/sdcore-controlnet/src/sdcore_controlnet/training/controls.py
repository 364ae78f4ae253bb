"""The control pictures of batches: those of the data, and made ones where the data brings none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .kept import KeptPictures
from .making import Maker

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sdcore_train import Batch, Record
    from torch import Generator, Tensor

NAMED = 5


class Controls:
    """Gives the control pictures of batches.

    Args:
        records: of the data.
        maker: makes the control pictures of those that have none; None where all have one.
        picture: reads a record's picture by its key, as batches have it: uint8 (height, width, 3).
        kept: keeps what was made.
        from_pixels: make them of the pixels of the batch, because pictures are mirrored or cut anew for each visit.

    Raises:
        ValueError: there are pictures without a control picture, and no maker.
    """

    def __init__(
        self,
        records: Sequence[Record],
        maker: Maker | None,
        picture: Callable[[str], NDArray[Any]],
        kept: KeptPictures,
        from_pixels: bool = False,
    ) -> None:
        bare = [record for record in records if record.control is None]
        if bare and maker is None:
            raise ValueError(_missing(bare, len(records)))
        self._stamps = {record.key: record.stamp for record in bare}
        self._maker = maker
        self._picture = picture
        self._kept = kept
        self._pictures = KeptPictures(None)
        self._from_pixels = from_pixels

    def of(self, batch: Batch, generator: Generator) -> Tensor:
        """The control pictures of a batch, (n, 3, height, width) in [0, 1].

        Args:
            batch: the batch.
            generator: decides the options of the preprocessor that vary.
        """
        import torch

        if self._maker is None or not self._stamps:
            assert batch.controls is not None
            return batch.controls
        rows = []
        for row, key in enumerate(batch.keys):
            if key in self._stamps:
                made = torch.from_numpy(self._made(batch, row, self._maker, generator).copy())
                rows.append(made.permute(2, 0, 1).float().div_(255))
            else:
                assert batch.controls is not None
                rows.append(batch.controls[row])
        return torch.stack(rows)

    def _made(self, batch: Batch, row: int, maker: Maker, generator: Generator) -> NDArray[Any]:
        key = batch.keys[row]
        if self._from_pixels:
            assert batch.pixels is not None
            return maker.make(to_uint8(batch.pixels[row]), generator)
        if maker.vary:
            picture = self._pictures.get(lambda: self._picture(key), key, self._stamps[key], batch.size)
            return maker.make(picture, generator)
        return self._kept.get(
            lambda: maker.make(self._picture(key), generator), maker.identity, key, self._stamps[key], batch.size
        )


def to_uint8(pixels: Tensor) -> NDArray[Any]:
    """A picture (3, height, width) in [-1, 1] as uint8 (height, width, 3)."""
    import torch

    found: NDArray[Any] = pixels.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return found


def _missing(bare: Sequence[Record], count: int) -> str:
    names = ", ".join(record.key for record in bare[:NAMED]) + (", ..." if len(bare) > NAMED else "")
    return (
        f"{len(bare)} of {count} pictures have no control picture, such as {names}: name the folder or column of the "
        "control pictures with `controls` of the source, or have them made with preprocess, such as preprocess=canny"
    )
