"""The keyed pattern: which frequencies of a tile carry what, and with which phases.

A tile of ``side`` x ``side`` pixels repeats over the picture, so its spectrum has energy only at whole numbers of
periods per tile; those between 0.045 and 0.29 periods per pixel are used: they survive JPEG and halving, and lie
where eyes are not at their best. Every frequency is a carrier of a random phase drawn from the key. Some are for
finding the mark (``sync``), the others bear one of the 64 bits of the code word each, as a sign.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.complex64]

LOWEST, HIGHEST = 0.045, 0.29
SYNC = 0.35
LOWEST_SYNC = 0.12
LARGE, SMALL = 128, 64


@dataclass(frozen=True, eq=False)
class Carriers:
    """The carriers of one key and one tile.

    Attributes:
        side: of the tile in pixels.
        ky, kx: (n,) periods per tile, one of each pair of opposite frequencies.
        radius: (n,) the frequencies in periods per pixel.
        phase: (n,) complex numbers of size 1: the keyed phases.
        bit: (n,) which of the 64 bits a carrier bears; -1 for sync.
        sync: (n,) where ``bit`` is -1.
        check_mask: four bits that go into the check sum of the payload.
    """

    side: int
    ky: NDArray[np.intp]
    kx: NDArray[np.intp]
    radius: NDArray[np.float64]
    phase: Spectrum
    bit: NDArray[np.intp]
    sync: NDArray[np.bool_]
    check_mask: int

    def signs(self, word: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n,) 1 or -1 for every carrier: those of the code word's bits, 1 for sync."""
        found: NDArray[np.float32] = (word.astype(np.float32) * 2 - 1)[self.bit]
        found[self.sync] = 1.0
        return found

    def pattern(self, amplitudes: Spectrum) -> NDArray[np.float32]:
        """(side, side) pattern with these complex amplitudes at the carriers; its spectrum is what ``take`` reads."""
        from scipy.fft import irfft2

        found: NDArray[np.float32] = irfft2(self.place(amplitudes), s=(self.side, self.side))
        return found

    def place(self, amplitudes: Spectrum) -> Spectrum:
        """(side, side // 2 + 1) half spectrum with these amplitudes at the carriers."""
        spectrum = np.zeros((self.side, self.side // 2 + 1), np.complex64)
        spectrum[self.ky, self.kx] = amplitudes
        column = self.kx == 0
        spectrum[-self.ky[column], 0] = np.conj(amplitudes[column])
        return spectrum

    def take(self, spectrum: Spectrum) -> Spectrum:
        """(n,) what stands at the carriers of a half spectrum."""
        found: Spectrum = spectrum[self.ky, self.kx]
        return found


@functools.lru_cache(maxsize=16)
def carriers(secret: bytes, side: int, payload: bool = True) -> Carriers:
    """The carriers of a secret.

    Args:
        secret: at least 16 bytes. What is drawn from it (by SHAKE-256) never changes between versions.
        side: of the tile: 128 or 64.
        payload: False gives all carriers to the finding of the mark; there is no room for bits in small pictures.
    """
    ky, kx = _band(side)
    count = len(ky)
    stream = hashlib.shake_256(b"sdcore spread 1 %d %d " % (side, payload) + secret).digest(count * 8 + 1)
    words = np.frombuffer(stream[: count * 8], "<u4").reshape(2, count)
    phase = np.exp(2j * np.pi * words[0].astype(np.float64) / 2**32).astype(np.complex64)
    radius = np.hypot(ky, kx) / side
    order = np.argsort(words[1], kind="stable")
    # The lowest frequencies come first: they are all that is left of a picture made four times smaller.
    order = order[np.argsort(radius[order] >= LOWEST_SYNC, kind="stable")]
    bit = np.empty(count, np.intp)
    sync = round(count * SYNC) if payload else count
    bit[order[:sync]] = -1
    bit[order[sync:]] = np.arange(count - sync) % 64
    return Carriers(side, ky, kx, radius, phase, bit, bit < 0, stream[-1] & 15)


def _band(side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    ky, kx = np.mgrid[-side // 2 + 1 : side // 2, 0 : side // 2]
    radius = np.hypot(ky, kx) / side
    # One of each pair; not those that the 8x8 grid of JPEG and of codecs puts into every picture with its own phase.
    grid = (ky % (side // 8) == 0) & (kx % (side // 8) == 0)
    used = (radius >= LOWEST) & (radius <= HIGHEST) & ((kx > 0) | (ky > 0)) & ~grid
    return ky[used], kx[used]
