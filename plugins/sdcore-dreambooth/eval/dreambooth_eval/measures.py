"""What is measured, as pure functions of features and names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def fidelity(drawn: Tensor, pictures: Tensor) -> float:
    """Mean over drawn pictures of the cosine similarity with the nearest of the subject's pictures.

    Args:
        drawn: (n, width) features of length one.
        pictures: (m, width) of the pictures that the subject was learnt from.
    """
    return float((drawn @ pictures.T).max(1).values.mean())


def drift(before: Tensor, after: Tensor) -> float:
    """Mean cosine distance of pictures of the same prompts and seeds, before and after. 0: nothing changed.

    Args:
        before, after: (n, width) features of length one.
    """
    return float((1 - (before * after).sum(1)).clamp(min=0).mean())


def share(found: Sequence[str], wanted: Sequence[str] | str) -> float:
    """How many of the names are those that were wanted, 0 to 1."""
    names = [wanted] * len(found) if isinstance(wanted, str) else wanted
    return sum(a == b for a, b in zip(found, names, strict=True)) / max(1, len(found))
