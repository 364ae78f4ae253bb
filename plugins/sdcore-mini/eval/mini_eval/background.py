"""Whether a picture has the background that was asked for: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BORDER = 3
#: Largest Euclidean distance, in 0..255 RGB, at which a border counts as a colour. The nearest two of the eleven
#: colours, yellow and orange, are 71 apart.
FARTHEST = 35.0


def border_mean(picture: np.ndarray, width: int = BORDER) -> np.ndarray:
    """Mean colour of the outermost pixels; picture (height, width, 3) in 0..255, result (3,)."""
    inside = np.ones(picture.shape[:2], bool)
    inside[width:-width, width:-width] = False
    mean: np.ndarray = picture[inside].astype(np.float64).mean(0)
    return mean


def named(colour: np.ndarray, table: Mapping[str, Sequence[int]]) -> str | None:
    """The nearest colour of the table, or None when even that is too far."""
    names = list(table)
    distance = np.linalg.norm(np.array([table[name] for name in names], np.float64) - colour, axis=1)
    best = int(distance.argmin())
    return names[best] if distance[best] <= FARTHEST else None
