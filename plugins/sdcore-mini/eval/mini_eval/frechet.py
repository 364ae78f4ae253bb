"""The Frechet distance of two sets of features (Heusel et al., arXiv 1706.08500), on a few principal axes."""

from __future__ import annotations

import numpy as np

#: With 512 axes and some hundred pictures the covariance could not be estimated.
AXES = 64


def principal_axes(features: np.ndarray, count: int = AXES) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and the axes of largest variance (d, count) of features (n, d)."""
    mean = features.mean(0)
    _, _, axes = np.linalg.svd(features - mean, full_matrices=False)
    chosen = axes[:count]
    signs = np.sign(chosen[np.arange(len(chosen)), np.abs(chosen).argmax(1)])
    return mean, (chosen * signs[:, None]).T


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features (n, d) and (m, d).

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. The root's trace is taken from the eigenvalues of the
    symmetric ``C1^(1/2) C2 C1^(1/2)``, which are those of ``C1 C2``.
    """
    difference = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ two @ root)
    return float(difference @ difference + np.trace(one) + np.trace(two) - 2 * np.sqrt(np.maximum(inner, 0)).sum())
