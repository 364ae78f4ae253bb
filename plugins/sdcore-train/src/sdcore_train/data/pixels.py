"""A picture with its mask and control picture as arrays of the size of its bucket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sdcore_train.records import Record

from .buckets import Fit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor


class Arrays(NamedTuple):
    """uint8: ``picture`` and ``control`` (height, width, 3), ``mask`` (height, width); None where there is none."""

    picture: NDArray[Any] | None
    mask: NDArray[Any] | None
    control: NDArray[Any] | None

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return sum(array.nbytes for array in self if array is not None)

    def cut(self, top: int, left: int, height: int, width: int) -> Arrays:
        """The same rectangle of all, in memory of its own: what is around it can be freed."""
        import numpy as np

        rows, columns = slice(top, top + height), slice(left, left + width)
        return Arrays(*(None if a is None else np.ascontiguousarray(a[rows, columns]) for a in self))

    def mirrored(self) -> Arrays:
        """All of them, left and right exchanged."""
        return Arrays(*(None if a is None else a[:, ::-1] for a in self))


def read_arrays(record: Record, fit: Fit, picture: bool = True, companions: bool = True) -> Arrays:
    """Read a record's files, resized but not cut.

    Args:
        record: the picture.
        fit: its place in its bucket.
        picture: whether the picture itself is needed.
        companions: whether its mask and control picture are.

    Raises:
        OSError: a file is missing or broken, or a mask or control picture has other proportions than the picture.
    """
    from PIL.Image import Resampling

    def resized(image: Image, what: str, resample: Resampling) -> NDArray[Any]:
        import numpy as np

        if what and abs(image.height * record.size[1] / record.size[0] - image.width) > 1 + image.width / 100:
            raise OSError(
                f"its {what} is {image.height}x{image.width} pixels, of other proportions than the picture "
                f"({record.size[0]}x{record.size[1]})"
            )
        height, width = fit.resized
        if image.size != (width, height):
            image = image.resize((width, height), resample)
        return np.asarray(image)

    lanczos, bilinear = Resampling.LANCZOS, Resampling.BILINEAR
    return Arrays(
        resized(record.read(), "", lanczos) if picture else None,
        None if record.mask is None or not companions else resized(record.mask(), "mask", bilinear),
        None if record.control is None or not companions else resized(record.control(), "control picture", lanczos),
    )


def to_pixels(pictures: Sequence[NDArray[Any]]) -> Tensor:
    """(n, 3, height, width) float32 in [-1, 1] of uint8 pictures, as ``sdcore.images.image_to_tensor`` has them."""
    return to_unit(pictures).mul_(2.0).sub_(1.0)


def to_unit(pictures: Sequence[NDArray[Any]]) -> Tensor:
    """(n, 3, height, width) float32 in [0, 1] of uint8 pictures (height, width, 3)."""
    import numpy as np
    import torch

    # Rearranged as bytes, which are a quarter of the floats.
    together = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return together.to(torch.float32).div_(255.0)


def to_masks(masks: Sequence[NDArray[Any] | None], height: int, width: int) -> Tensor:
    """(n, 1, height, width) float32 in [0, 1]; ones where a picture has no mask."""
    import numpy as np
    import torch

    full = np.full((height, width), 255, np.uint8)
    together = torch.from_numpy(np.stack([full if mask is None else mask for mask in masks]))
    return together.unsqueeze(1).to(torch.float32).div_(255.0)
