"""How well edges follow edges: precision and recall with a tolerance of one pixel. Arrays only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Edges = NDArray[np.bool_]

#: Neighbours at a distance of at most one pixel (Euclidean).
NEAR = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


def edges_of(picture: Any) -> Edges:
    """Where a black and white picture of edges is white, (height, width)."""
    return np.asarray(picture.convert("L")) > 127


def widened(edges: Edges) -> Edges:
    """All that lies within one pixel of an edge."""
    height, width = edges.shape
    bordered = np.pad(edges, 1)
    found = np.zeros_like(edges)
    for down, across in NEAR:
        found |= bordered[1 + down : 1 + down + height, 1 + across : 1 + across + width]
    return found


def f1(drawn: Edges, wanted: Edges) -> float:
    """The harmonic mean of precision and recall, in [0, 1].

    Precision is the share of the drawn edges that lie within one pixel of a wanted one; recall is the share of the
    wanted edges that lie within one pixel of a drawn one. 0 where one of the two has no edges.
    """
    if not drawn.any() or not wanted.any():
        return 0.0
    precision = float((drawn & widened(wanted)).sum() / drawn.sum())
    recall = float((wanted & widened(drawn)).sum() / wanted.sum())
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
