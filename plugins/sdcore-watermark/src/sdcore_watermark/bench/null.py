"""False alarms: pictures without a mark, each with a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import scheme_of

if TYPE_CHECKING:
    from PIL.Image import Image

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
SIDES = (64, 384)


def false_alarms(
    pictures: Sequence[Image], count: int, search: str, tick: Callable[[], object], seed: int = 0
) -> dict[str, Any]:
    """p-values of ``spread`` on random crops of clean pictures.

    Crops of 64 to 384 pixels a side, some enlarged or saved as JPEG, each looked at with a new key.

    Returns:
        For each level the share of crops with a p-value at or below it, which should not be larger than the level;
        the largest score; payloads that were reported although there are none.
    """
    from .attacks import coded

    random = np.random.default_rng(seed)
    scheme = scheme_of("spread")
    values, scores, reads = [], [], 0
    for number in range(count):
        image = pictures[number % len(pictures)]
        sides = [int(random.integers(SIDES[0], min(SIDES[1], length) + 1)) for length in image.size]
        left, top = (int(random.integers(0, length - side + 1)) for length, side in zip(image.size, sides, strict=True))
        cut = image.crop((left, top, left + sides[0], top + sides[1]))
        kind = random.integers(0, 4)
        if kind == 1:
            cut = coded(cut, "JPEG", int(random.integers(20, 95)))
        elif kind == 2:
            factor = float(random.uniform(0.6, 1.6))
            cut = cut.resize((max(round(cut.width * factor), 64), max(round(cut.height * factor), 64)))
        found = scheme.detect(cut, Key((random.bytes(32),)), search)
        values.append(found.p_value)
        scores.append(found.score)
        reads += found.payload is not None
        tick()
    shares = {f"{level:g}": float(np.mean(np.asarray(values) <= level)) for level in LEVELS}
    return {"crops": count, "search": search, "share_at_or_below": shares, "score_max": max(scores), "reads": reads}
