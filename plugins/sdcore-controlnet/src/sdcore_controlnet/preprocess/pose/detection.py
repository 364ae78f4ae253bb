"""Single-shot detection as MediaPipe's detectors do it: anchors, decoding, weighted non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .geometry import Points, Region

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """What a detector looks like from outside.

    Attributes:
        side: of its input, in pixels.
        strides: of its layers; layers of one stride lie side by side.
    """

    side: int
    strides: tuple[int, ...]


PEOPLE = Detector(224, (8, 16, 32, 32, 32))
FACES = Detector(128, (8, 16, 16, 16))


@dataclass(frozen=True)
class Detection:
    """Something that was found.

    Attributes:
        score: 0 to 1.
        box: (4,) left, top, right, bottom.
        points: (n, 2) key points.
    """

    score: float
    box: Floats
    points: Points

    def within(self, region: Region) -> Detection:
        """The same in pixels of the picture from which the detector saw ``region``; the box stays upright."""
        left, top, right, bottom = self.box
        corners = region.project(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))
        return Detection(self.score, np.concatenate([corners.min(0), corners.max(0)]), region.project(self.points))


@lru_cache(maxsize=4)
def anchors(detector: Detector) -> Floats:
    """Centres of the anchors, (n, 2), 0 to 1: two for each cell of a layer, and all of fixed size."""
    found: list[Floats] = []
    for stride in sorted(set(detector.strides)):
        cells = -(-detector.side // stride)
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grid = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        found.append(np.repeat(grid, 2 * detector.strides.count(stride), axis=1).reshape(-1, 2))
    return np.concatenate(found)


def decoded(raw: Floats, logits: Floats, detector: Detector, least: float) -> list[Detection]:
    """What the network says, as detections of a score of at least ``least``, best first.

    Args:
        raw: (n, 4 + 2 k): centre and size of the box, then key points, in pixels relative to the anchors.
        logits: (n,).
        detector: its anchors.
        least: 0 to 1.
    """
    scores = 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -100, 100)))
    values = np.asarray(raw, np.float64) / detector.side
    order = np.argsort(-scores, kind="stable")
    found: list[Detection] = []
    for index in order[scores[order] >= least]:
        places = values[index].reshape(-1, 2).copy()
        half = places[1] / 2
        places += anchors(detector)[index]
        found.append(Detection(float(scores[index]), np.concatenate([places[0] - half, places[0] + half]), places[2:]))
    return found


def overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes (4,)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    common = float(sides.prod())
    return common / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def suppressed(found: Sequence[Detection], most: float = 0.3) -> list[Detection]:
    """One detection for each thing: the mean of those that overlap the best one, weighted by score.

    Args:
        found: best first.
        most: intersection over union from which two are of the same thing.
    """
    left, kept = list(found), []
    while left:
        best = left[0]
        same = [other for other in left if other is best or overlap(best.box, other.box) > most]
        left = [other for other in left if not any(other is one for one in same)]
        weights = np.array([other.score for other in same])
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([other.box for other in same]), 1)
        points = np.tensordot(weights, np.stack([other.points for other in same]), 1)
        kept.append(Detection(best.score, box, points))
    return kept
