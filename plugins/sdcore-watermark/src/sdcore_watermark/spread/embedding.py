"""Putting the pattern into a picture: where eyes do not see it, and where the detector will find it.

The embedder knows the picture, so it need not fight it (side information at the encoder; Costa 1983, improved spread
spectrum, Malvar and Florencio 2003): what it adds at each frequency is chosen, by a few steps of ascent, so that the
detector's own statistic of the marked picture becomes as large as the permitted error allows. Frequencies at which the
picture is too strong to be turned are given up; those that are nearly right get little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .carrier import Carriers, Spectrum
from .correlate import equalise, fold, z_of_shifts
from .perception import DETAIL, FLOOR, activity, detail, luma, mask, psnr, ssim

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

STEPS = 24
CAUTION = 1.5
PAYLOAD_WEIGHT = 0.5
MOST_WEAKER = 6.0
TOLERANCE = 0.02
"""How much unknown noise the ascent reckons with, as a multiple of the mean amplitude that it may add."""


@dataclass(frozen=True, eq=False)
class Marked:
    """A marked picture: ``pixels`` (height, width, 3), its PSNR in decibels and its SSIM (of luma)."""

    pixels: Pixels
    psnr: float
    ssim: float


def embed(
    pixels: Pixels,
    keyed: Carriers,
    word: NDArray[np.uint8],
    target: float,
    least_ssim: float,
    factor: int = 1,
) -> Marked:
    """Mark a picture.

    Args:
        pixels: (height, width, 3).
        keyed: the carriers.
        word: (64,) code word.
        target: PSNR in decibels.
        least_ssim: where the mark at ``target`` would leave a lower SSIM, it is made weaker, down to 6 dB.
        factor: pixels of the picture for one of the pattern, for large pictures.

    Returns:
        What could be done: a picture whose pixels cannot move (all black and white) has a PSNR above the target.
    """
    whole = luma(pixels)
    plane = whole if factor == 1 else _reduce(whole, factor)
    details = detail(plane)
    busy = activity(details)
    hiding = mask(busy)
    host = fold(details / (busy + np.float32(FLOOR)), keyed.side)
    gain = float(np.sum(hiding / (busy + np.float32(FLOOR)), dtype=np.float64)) / keyed.side**2
    signs = keyed.signs(word)
    shift = best_shift(host, keyed, signs)
    amplitudes = choose(host, keyed, signs, shift, gain, 255**2 / 10 ** (target / 10))
    mark = _tiled(keyed.pattern(amplitudes), plane.shape) * hiding
    if factor != 1:
        mark = _enlarge(mark, whole.shape)
    marked = _add(pixels, mark, target)
    similarity = ssim(whole, luma(marked))
    weaker = 0.0
    while similarity < least_ssim and weaker < MOST_WEAKER:
        # What is missing to 1 falls as the error does.
        weaker = min(weaker + 10 * math.log10((1 - similarity) / (1 - least_ssim)) + 0.05, MOST_WEAKER)
        marked = _add(pixels, mark, target + weaker)
        similarity = ssim(whole, luma(marked))
    return Marked(marked, psnr(pixels, marked), similarity)


def best_shift(host: Array, keyed: Carriers, signs: NDArray[np.float32]) -> tuple[int, int]:
    """The shift (down, right) at which the picture itself speaks most for the pattern.

    The detector tries all shifts anyway. Among side^2 of them the best is about four standard deviations up, a gift
    that small pictures need; and as it depends on the picture, marks of many pictures do not add up when an attacker
    averages them (Yang et al. 2024, arXiv 2406.09026).
    """
    from scipy.fft import rfft2

    matched = equalise(keyed.take(rfft2(host))) * np.conj(keyed.phase) * signs
    found = z_of_shifts(np.where(keyed.sync, matched, 0), keyed)
    borne = z_of_shifts(np.where(keyed.sync, 0, matched), keyed)
    down, right = divmod(int(np.argmax(found + np.float32(PAYLOAD_WEIGHT) * borne)), keyed.side)
    return down, right


def choose(
    host: Array,
    keyed: Carriers,
    signs: NDArray[np.float32],
    shift: tuple[int, int],
    gain: float,
    error: float,
) -> Spectrum:
    """The amplitudes (n,) to add at the carriers.

    Args:
        host: the whitened picture, folded.
        keyed: the carriers.
        signs: (n,) what each is to say.
        shift: (down, right) of the pattern.
        gain: by which the detector multiplies a pattern, before its high pass.
        error: mean square of the pattern, in grey levels.
    """
    from scipy.fft import rfft2

    side = keyed.side
    turn = np.exp(-2j * np.pi * (keyed.ky * shift[0] + keyed.kx * shift[1]) / side)
    wanted = keyed.phase * signs * turn
    response = gain * (1 - _box_response(keyed.ky / side) * _box_response(keyed.kx / side))
    known = keyed.take(rfft2(host)) / (response * wanted)
    budget = error * side**4 / 2
    mean = np.sqrt(budget / len(wanted))
    added = np.full(len(wanted), mean, np.complex128)
    caution = (CAUTION * mean) ** 2
    for _ in range(STEPS):
        total = known + added
        size = (np.abs(total) ** 2 + caution) ** 1.5
        uphill = ((total.imag**2 + caution) - 1j * total.real * total.imag) / size
        step = uphill * np.sqrt(budget / np.sum(np.abs(uphill) ** 2))
        added = 0.5 * (added + step)
    added *= np.sqrt(budget / np.sum(np.abs(added) ** 2))
    found: Spectrum = (added * wanted).astype(np.complex64)
    return found


def _box_response(frequency: NDArray[np.floating]) -> NDArray[np.float64]:
    """Response of the running mean of ``DETAIL`` values at a frequency in periods per pixel."""
    angle = np.pi * np.asarray(frequency, np.float64)
    safe = np.where(angle == 0, 1.0, angle)
    found: NDArray[np.float64] = np.where(angle == 0, 1.0, np.sin(DETAIL * safe) / (DETAIL * np.sin(safe)))
    return found


def _tiled(tile: Array, shape: tuple[int, ...]) -> Array:
    times = [-(-length // side) for length, side in zip(shape, tile.shape, strict=True)]
    return np.tile(tile, times)[: shape[0], : shape[1]]


def _add(pixels: Pixels, mark: Array, target: float) -> Pixels:
    """Add a mark, scaled so that the PSNR after rounding and clipping is the target."""
    aim = target + TOLERANCE  # rounding must not take the result below the target
    strength = 10 ** ((psnr(mark * 0, mark) - aim) / 20) if mark.any() else 0.0
    given = pixels.astype(np.float32)
    limit = 3 * strength
    result = pixels
    for _ in range(4):
        result = np.clip(np.rint(given + (np.float32(strength) * mark)[..., None]), 0, 255).astype(np.uint8)
        off = psnr(pixels, result) - aim
        if abs(off) < TOLERANCE or not np.isfinite(off):
            break
        strength = min(strength * 10 ** (off / 20), limit)
    return result


def _reduce(plane: Array, factor: int) -> Array:
    from PIL import Image

    small = Image.fromarray(plane).resize(
        (plane.shape[1] // factor, plane.shape[0] // factor), Image.Resampling.BOX
    )  # fmt: skip
    return np.asarray(small, np.float32)


def _enlarge(plane: Array, shape: tuple[int, ...]) -> Array:
    from PIL import Image

    large = Image.fromarray(plane).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32)
