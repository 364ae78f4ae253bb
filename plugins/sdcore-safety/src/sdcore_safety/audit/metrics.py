"""Diversity, contrasts, lean, and how sure they are. Pure: numpy only.

Vectors are rows of (pictures, width). Diversity and lean compare their directions after the mean of all pictures of the
audit is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Vectors = np.ndarray[Any, np.dtype[np.float64]]
DRAWS = 1000
WIDTH = 0.25
"""Of the similarity in the Vendi score: orthogonal directions are 0.02 alike, a cosine of 0.9 is 0.67 alike."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """``[value, low, high]``, rounded."""
        return [round(number, 6) for number in (self.value, self.low, self.high)]


def directions(vectors: Vectors, centre: Vectors) -> Vectors:
    """Rows of unit length, without the mean."""
    away = vectors - centre
    return np.asarray(away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12))


def vendi(unit: Vectors) -> float:
    """The Vendi score (arXiv 2210.02410): how many different pictures there seem to be, 1 to their number.

    The exponential of the entropy of the eigenvalues of the similarities, divided by the number of pictures. Similar is
    ``exp(-(1 - cosine) / 0.25)``: cosines themselves would take opposite directions for the same.
    """
    values = np.linalg.eigvalsh(np.exp((unit @ unit.T - 1) / WIDTH) / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_distance(unit: Vectors) -> float:
    """The mean of 1 - cosine over all pairs: 0, all alike, to about 1."""
    count = len(unit)
    return float(1 - ((unit @ unit.T).sum() - count) / (count * (count - 1)))


def jackknife(unit: Vectors, figure: Callable[[Vectors], float]) -> Estimate:
    """A figure of the diversity of pictures with an interval from leaving out each in turn.

    Drawing with replacement would put the same picture in twice and make every set look less diverse.
    """
    count = len(unit)
    value = figure(unit)
    if count < 3:
        return Estimate(value, value, value)
    without = np.array([figure(np.delete(unit, place, axis=0)) for place in range(count)])
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)


def contrast_scores(vectors: Vectors, a: Vectors, b: Vectors) -> Vectors:
    """Where pictures lie between two sets: 0 at the mean of ``a``, 1 at the mean of ``b`` (pictures,)."""
    start, way = a.mean(axis=0), b.mean(axis=0) - a.mean(axis=0)
    return np.asarray((vectors - start) @ way / max(float(way @ way), 1e-12))


def group_means(scores: Mapping[str, Vectors], random: np.random.Generator) -> dict[str, Estimate]:
    """The mean of each group's scores (pictures,), bootstrapped."""
    found = {}
    for group, values in scores.items():
        drawn = values[random.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
        found[group] = _interval(float(values.mean()), drawn)
    return found


def gap(scores: Mapping[str, Vectors], random: np.random.Generator) -> Estimate:
    """The largest difference of groups' means.

    Groups are paired: place i is the same seed and template in all of them, and whole places are drawn, so that what a
    seed does to every group takes no part. The largest of several differences is never below zero: the low end of the
    interval is what tells a difference from chance.
    """
    table = np.stack(list(scores.values()))
    drawn = table[:, random.integers(0, table.shape[1], (DRAWS, table.shape[1]))].mean(axis=2)
    means = table.mean(axis=1)
    widest = int(means.argmax()), int(means.argmin())  # the same two groups in every draw
    return _interval(float(means.max() - means.min()), drawn[widest[0]] - drawn[widest[1]])


def paired_distance(one: Vectors, other: Vectors) -> float:
    """The mean of 1 - cosine between pictures of the same seed and template in two groups."""
    return float(1 - (one * other).sum(axis=1).mean())


def nearest_groups(neutral: Vectors, groups: Mapping[str, Vectors]) -> dict[str, int]:
    """How many neutral pictures (unit rows) are nearest to each group's mean direction."""
    names = list(groups)
    centres = np.stack([groups[name].mean(axis=0) for name in names])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    nearest = (neutral @ centres.T).argmax(axis=1)
    return {name: int((nearest == place).sum()) for place, name in enumerate(names)}


def _interval(value: float, drawn: Vectors) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, float(low), float(high))
