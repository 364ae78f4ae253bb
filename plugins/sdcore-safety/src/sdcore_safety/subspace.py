"""Taking an unsafe subspace out of a prompt's conditioning. Pure: imports no sdcore.

After SAFREE (Yoon et al., arXiv 2410.12761): a subspace is spanned by texts of unsafe concepts, and words that lie in
it are moved out of it while the others stay. SAFREE finds such words by leaving each out in turn; here it is the share
of a word's own state within the subspace, compared with what harmless texts have there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

QUANTILE = 0.99
"""A word is moved if more of it lies in the subspace than of this part of the words of harmless texts."""


@dataclass(frozen=True)
class Subspace:
    """An unsafe subspace of one kind of vectors.

    Attributes:
        centre: (width,), the mean of harmless vectors.
        basis: (directions, width), orthonormal.
        usual: the share that harmless vectors have within it, at :data:`QUANTILE`.
    """

    centre: Tensor
    basis: Tensor
    usual: float

    @classmethod
    def build(cls, concepts: Tensor, benign: Tensor) -> Subspace:
        """From vectors of unsafe texts (concepts, width) and of harmless ones (vectors, width)."""
        import torch

        centre = benign.mean(dim=0)
        _, sizes, rows = torch.linalg.svd(concepts - centre, full_matrices=False)
        basis = rows[sizes > sizes[0] * 0.05]
        made = cls(centre, basis, 0.0)
        return cls(centre, basis, float(torch.quantile(made.share(benign), QUANTILE)))

    def share(self, vectors: Tensor) -> Tensor:
        """How much of each vector (..., width), without the mean, lies in the subspace: 0 to 1, (...)."""
        away = vectors - self.centre
        return (away @ self.basis.T).square().sum(-1) / away.square().sum(-1).clamp_min(1e-12)

    def remove(self, vectors: Tensor, amount: float) -> tuple[Tensor, int]:
        """Vectors (rows, width) with ``amount`` (0 to 1) of their part in the subspace taken out where it is unusual.

        Returns:
            The vectors, and how many were changed.
        """
        import torch

        away = (vectors - self.centre) @ self.basis.T @ self.basis
        unusual = self.share(vectors) > self.usual
        return torch.where(unusual[:, None], vectors - amount * away, vectors), int(unusual.sum())


def meanings(states: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """What stands for texts: the mean of each one's words and its state at the end token, (2 * texts, width).

    Args:
        states: of each text (tokens, width).
        lengths: tokens of each, with start and end; behind them is padding.
    """
    import torch

    pairs = list(zip(states, lengths, strict=True))
    words = [state[1 : max(length - 1, 2)].mean(dim=0) for state, length in pairs]
    return torch.stack([*words, *(state[length - 1] for state, length in pairs)])
