"""The averaging attack: what many marked pictures have in common is taken for the mark (arXiv 2406.09026)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdcore import RequestError
from sdcore_watermark.spread.perception import detail, luma

from .subjects import Subject

if TYPE_CHECKING:
    from PIL.Image import Image

CROPS = 8


def averaging(
    subject: Subject, pictures: Sequence[Image], payloads: Sequence[int], count: int, tick: Callable[[], object]
) -> dict[str, Any]:
    """Estimate the mark from ``count`` marked pictures of one size, then take it away, and forge it.

    The pictures are as many different crops of those given, marked each on its own; the estimate is the mean of what
    is left of them without their local means.

    Returns:
        ``removed``: share of marked pictures in which the mark is no longer found when the estimate is subtracted at
        twice the strength of the mark; ``forged``: share of clean pictures in which it is found when it is added. None
        where the scheme does not mark pictures of that size.
    """
    random = np.random.default_rng(0)
    side = min(min(image.size) for image in pictures) // 2
    clean, marked = [], []
    for number in range(count):
        image = pictures[number % len(pictures)]
        left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
        cut = image.crop((left, top, left + side, top + side))
        clean.append(cut)
        try:
            marked.append(subject.embed(cut, payloads[number % len(payloads)]))
        except (RequestError, RuntimeError):  # too small for this scheme
            return {"pictures": 0, "size": side, "tested": 0, "removed": None, "forged": None}
        tick()
    common = np.mean([detail(luma(np.asarray(image))) for image in marked], axis=0)
    difference = np.asarray(marked[0], np.float32) - np.asarray(clean[0], np.float32)
    common *= 2 * difference.std() / max(float(common.std()), 1e-9)
    removed = forged = 0
    tested = min(count, CROPS)
    for number in range(tested):
        payload = payloads[number % len(payloads)]
        removed += not subject.detect(_added(marked[number], -common), payload).found
        forged += subject.detect(_added(clean[number], common), payload).found
        tick()
    return {"pictures": count, "size": side, "tested": tested, "removed": removed / tested, "forged": forged / tested}


def _added(image: Image, mark: np.ndarray[Any, Any]) -> Image:
    from PIL import Image as PIL

    pixels = np.asarray(image, np.float32) + mark[..., None]
    return PIL.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
