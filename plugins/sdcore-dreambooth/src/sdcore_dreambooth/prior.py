"""The arithmetic of prior preservation (arXiv 2208.12242, equation 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def prior_weights(of_class: Tensor, weight: float) -> Tensor:
    """Weights of pictures that make the mean over a batch a sum of two means.

    With them ``mean(weights * loss) = mean(loss of the subject) + weight * mean(loss of the class)``.

    Args:
        of_class: (n,) bool, true for class pictures.
        weight: of the class's mean.

    Returns:
        (n,) float32. A batch of one kind alone has that kind's mean alone.
    """
    count = of_class.numel()
    many = int(of_class.sum())
    subject = count / (count - many) if many < count else 0.0
    prior = weight * count / many if many else 0.0
    return of_class.float() * (prior - subject) + subject


def class_share(batch: int, share: float) -> int:
    """How many pictures of a batch are class pictures: at least one, and at least one is not."""
    return min(batch - 1, max(1, round(batch * share)))
