"""What the data set is made of: records of pictures that are not read yet, and the batches that steps see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Record:
    """One picture of the data set, not read yet.

    Attributes:
        key: names it in messages and orders the data set: a path below the source, or "shard.tar:000123".
        captions: at least one; each visit takes one of them.
        size: (height, width) of the file, in pixels, after turning it as its EXIF data says.
        read: reads the picture as RGB (transparent parts on white); raises OSError if it is broken.
        stamp: changes when the file changes (size and time of a file, a hash in a shard): part of the cache's key.
        content: what its files, mask and control picture included, are known by after they were copied: sizes, a hash.
        score: how good it is, for quality-weighted sampling; None if nobody said.
        weight: of its loss.
        role: of its source, as the configuration names it: "" or such as "class" (prior preservation).
        mask: reads a mask of the same size as "L" (white: counts fully in the loss), or None.
        control: reads a control picture of the same size as RGB, or None.
        extra: other columns of its metadata.
    """

    key: str
    captions: tuple[str, ...]
    size: tuple[int, int]
    read: Callable[[], Image]
    stamp: str = ""
    content: str = ""
    score: float | None = None
    weight: float = 1.0
    role: str = ""
    mask: Callable[[], Image] | None = None
    control: Callable[[], Image] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step (or one of its micro-batches) is made of. All pictures have one size.

    Attributes:
        number: of the micro-batch since the start of training; with the seed it determines all that is random.
        keys: of the records, in order.
        captions: the one chosen for this visit, after dropout ("") and shuffling.
        roles: of the records' sources.
        pixels: (n, 3, height, width) float32 in [-1, 1], or None where ``moments`` are cached.
        moments: (n, 2 c, h, w) float32, mean and log-variance of the unscaled latent as the VAE's encoder gives
            them, or None where they are not cached.
        masks: (n, 1, height, width) float32 in [0, 1], all ones where a record has none; None if no record of
            the data set has one.
        controls: (n, 3, height, width) float32 in [0, 1]; None if the data set has none.
        weights: (n,) float32, of each picture's loss.
        original_sizes, crops: (height, width) of each file, and (top, left) of the crop after resizing: what SDXL
            is told (arXiv 2307.01952, section 2.2).
        size: (height, width) of the batch in pixels.
        extra: what stages of the port ``batch`` add for other stages.
    """

    number: int
    keys: tuple[str, ...]
    captions: tuple[str, ...]
    roles: tuple[str, ...]
    pixels: Tensor | None
    moments: Tensor | None
    masks: Tensor | None
    controls: Tensor | None
    weights: Tensor
    original_sizes: tuple[tuple[int, int], ...]
    crops: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)
