"""Folding a picture into one tile, and looking for the keyed pattern at every shift of it.

Why the p-value holds for any picture: under the null hypothesis the key has nothing to do with the picture, so the
phases by which the picture's spectrum differs from the pattern are independent and uniform, whatever the picture is.
The statistic is a weighted sum of their cosines, with weights that do not depend on the key. Its variance is half the
sum of the squared weights, and :func:`tail` bounds its tail without any limit theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .carrier import HIGHEST, Carriers, Spectrum

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hit:
    """The best place of the pattern in a folded tile.

    Attributes:
        z: the statistic in standard deviations of the null hypothesis.
        shift: (down, right) pixels by which the tile is shifted.
        mirror, turn: whether the picture is mirrored, and by how many quarters it is turned.
        spectrum: (n,) the picture's spectrum at the carriers, equalised, shifted back.
    """

    z: float
    shift: tuple[float, float]
    mirror: bool
    turn: int
    spectrum: Spectrum


def fold(values: Array, side: int) -> Array:
    """The sum (side, side) of all tiles of a picture, the rest at the right and below included."""
    height, width = values.shape
    down, right = -height % side, -width % side
    if down or right:
        values = np.pad(values, ((0, down), (0, right)))
    tiles = values.reshape(values.shape[0] // side, side, values.shape[1] // side, side)
    found: Array = tiles.sum(axis=(0, 2))
    return found


def equalise(spectrum: Spectrum, kept: NDArray[np.bool_] | None = None) -> Spectrum:
    """Complex numbers with their sizes compressed: strong frequencies of the picture must not decide alone.

    Those that are not ``kept`` become 0.
    """
    size = np.abs(spectrum)
    middle = np.float32(np.median(size if kept is None or not kept.any() else size[kept])) + np.float32(1e-12)
    found: Spectrum = spectrum / (size + np.float32(0.5) * middle)
    return found if kept is None else np.where(kept, found, 0).astype(np.complex64)


def search(tile: Array, keyed: Carriers, symmetries: int = 2, like: Hit | None = None, highest: float = 1.0) -> Hit:
    """The best shift of the pattern in a folded tile.

    Args:
        tile: (side, side), see :func:`fold`.
        keyed: the carriers.
        symmetries: 1 for the picture as it is, 2 for the mirrored one too, 8 for both with all quarter turns.
        like: look only at the mirror and turn of this one.
        highest: frequency above which the picture has lost everything, in periods per pixel.
    """
    kept = None if highest >= HIGHEST else keyed.radius <= highest
    indices = range(symmetries) if like is None else (like.mirror + 2 * like.turn,)
    return max((_search_one(_symmetric(tile, index), index, keyed, kept) for index in indices), key=lambda hit: hit.z)


def _symmetric(tile: Array, index: int) -> Array:
    if index & 1:
        tile = tile[:, ::-1]
    return np.rot90(tile, index >> 1) if index >> 1 else tile


def _search_one(tile: Array, index: int, keyed: Carriers, kept: NDArray[np.bool_] | None) -> Hit:
    from scipy.fft import rfft2

    spectrum = equalise(keyed.take(rfft2(tile)), kept)
    side = keyed.side
    surface = z_of_shifts(np.where(keyed.sync, spectrum * np.conj(keyed.phase), 0), keyed)
    down, right = divmod(int(np.argmax(surface)), side)
    z = float(surface[down, right])
    exact = (_vertex(surface[:, right], down), _vertex(surface[down], right))
    turned = np.exp(2j * np.pi * (keyed.ky * exact[0] + keyed.kx * exact[1]) / side)
    return Hit(z, exact, bool(index & 1), index >> 1, (spectrum * turned).astype(np.complex64))


def z_of_shifts(matched: Spectrum, keyed: Carriers) -> Array:
    """The statistic (side, side) at every shift, in standard deviations of the null hypothesis.

    Args:
        matched: (n,) an equalised spectrum times the conjugate of what is looked for; 0 where it does not count.
        keyed: the carriers.
    """
    from scipy.fft import irfft2

    side = keyed.side
    deviation = math.sqrt(float(np.sum(np.abs(matched) ** 2, dtype=np.float64)) / 2)
    # irfft2 counts every carrier and its opposite, and divides by the number of pixels.
    surface: Array = irfft2(keyed.place(matched.astype(np.complex64)), s=(side, side))
    return surface * np.float32(side * side / 2 / max(deviation, 1e-12))


def _vertex(line: Array, place: int) -> float:
    """Where the parabola through the largest value and its neighbours has its top."""
    before, top, after = (float(line[(place + step) % len(line)]) for step in (-1, 0, 1))
    bend = before - 2 * top + after
    return place + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def soft_bits(hit: Hit, keyed: Carriers) -> NDArray[np.float64]:
    """(64,) sums of what the carriers of each bit say, each of variance 1 under the null hypothesis."""
    told = np.real(hit.spectrum * np.conj(keyed.phase)).astype(np.float64)
    weight = np.abs(hit.spectrum).astype(np.float64) ** 2 / 2
    mine = ~keyed.sync
    sums = np.bincount(keyed.bit[mine], told[mine], 64)
    variance = np.bincount(keyed.bit[mine], weight[mine], 64)
    return sums / np.sqrt(np.maximum(variance, 1e-12))


EXCESS = 2 * math.e**3 / 9
"""By how much a tail may exceed the normal one at most: 4.46."""


def tail(z: float) -> float:
    """Bound on the probability that a sum of weighted signs, or cosines, exceeds ``z`` of its standard deviations.

    The signs are fair coins, the phases of the cosines are uniform, all are independent; the weights are any. Two
    bounds hold, the smaller one counts. The moment generating function of a sign, cosh(s), is at most exp(s^2 / 2),
    and that of a cosine, I0(s), at most exp(s^2 / 4): hence exp(-z^2 / 2). And no function with a convex second
    derivative has a larger mean than for the normal variable of the same variance: hence 2 e^3 / 9 times the normal
    tail (Pinelis 1994, Annals of Statistics 22, 357-368). For cosines that follows from a normal variable being the
    cosine of a uniform phase times an independent length, of mean square 2, and Jensen's inequality for the length's
    square.
    """
    if z <= 0:
        return 1.0
    return min(math.exp(-z * z / 2), EXCESS * 0.5 * math.erfc(z / math.sqrt(2)))


def p_value(z: float, hypotheses: float) -> float:
    """Bound on the probability that the best of so many hypotheses reaches z in a picture without the mark."""
    return min(1.0, hypotheses * tail(z))
