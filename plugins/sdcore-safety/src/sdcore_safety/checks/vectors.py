"""How near a text is to something unsafe, measured against what is harmless. Pure.

The score is ``cos(text, nearest concept) - cos(text, nearest benign anchor)``. Text vectors of one encoder all point
much the same way, so they are compared after the mean of the anchors is taken away. What such a difference means
depends on the encoder: it is told in standard deviations of what the anchors themselves get, each measured against the
others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BORDER = 3.0
"""Standard deviations above the anchors' mean that make a score of 0.5."""
SAME = 0.995
"""A cosine from which on the encoder does not tell a text from a concept, however well it tells texts apart."""


@dataclass(frozen=True)
class Anchors:
    """Concepts and anchors, and what is usual among the anchors.

    Attributes:
        centre: (width,), taken away from every vector.
        benign: (anchors, width), unit length.
        concepts: category to (concepts, width), unit length.
        usual: category to mean and standard deviation of the anchors' own differences.
    """

    centre: Tensor
    benign: Tensor
    concepts: Mapping[str, Tensor]
    usual: Mapping[str, tuple[float, float]]

    @classmethod
    def build(cls, benign: Tensor, concepts: Mapping[str, Tensor]) -> Anchors:
        """From raw vectors (texts, width); at least three anchors."""
        from torch.nn.functional import normalize

        centre = benign.mean(dim=0)
        anchors = normalize(benign - centre, dim=1)
        unit = {category: normalize(vectors - centre, dim=1) for category, vectors in concepts.items()}
        among = (anchors @ anchors.T).fill_diagonal_(-1.0).amax(dim=1)
        usual = {}
        for category, vectors in unit.items():
            differences = (anchors @ vectors.T).amax(dim=1) - among
            usual[category] = differences.mean().item(), max(differences.std().item(), 1e-4)
        return cls(centre, anchors, unit, usual)

    def deviations(self, vectors: Tensor) -> dict[str, float]:
        """Category to the largest deviation of these vectors (texts, width), in standard deviations."""
        from torch.nn.functional import normalize

        unit = normalize(vectors - self.centre, dim=1)
        nearest = (unit @ self.benign.T).amax(dim=1)
        found = {}
        for category, concepts in self.concepts.items():
            mean, spread = self.usual[category]
            near = (unit @ concepts.T).amax(dim=1)
            away = ((near - nearest - mean) / spread).amax().item()
            found[category] = max(away, 2 * BORDER) if bool((near >= SAME).any()) else away
        return found


def to_score(deviation: float) -> float:
    """0 to 1, rising; 0.5 at :data:`BORDER` standard deviations. NaN stays NaN."""
    if math.isnan(deviation):
        return deviation
    return 1.0 / (1.0 + math.exp(min(max(2 * (BORDER - deviation), -60.0), 60.0)))
