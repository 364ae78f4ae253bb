"""The keyed signs of the initial noise. Pure arithmetic on numpy arrays.

As in Gaussian Shading (Yang et al. 2024, arXiv 2404.04956) a bit decides in which half of the normal distribution a
value lies: its sign is keyed, its size comes from the picture's own generator. Signs from a keyed stream are fair and
independent to whoever lacks the key, so the noise is distributed exactly as it would be without a mark. The stream
depends on one of 4,096 nonces, which follows from the seed: two pictures share their signs only if they share it. The
detector tries them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONCES = 4096
PAYLOAD_FROM = 2048
"""Values from which on half of them bear the 64 bits of the code word; smaller latents are only found."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Which values of a latent of ``count`` bear what: ``bit`` (count,) is -1, or one of the 64 bits."""

    count: int
    bit: NDArray[np.intp]


def nonce_of(secret: bytes, seed: int) -> int:
    """The nonce of a seed, from 0 to 4095."""
    digest = hashlib.blake2b(b"nonce %d" % seed, key=secret, digest_size=8).digest()
    return int.from_bytes(digest, "little") % NONCES


def layout(secret: bytes, count: int) -> Layout:
    """Which values bear what."""
    bit = np.full(count, -1, np.intp)
    if count >= PAYLOAD_FROM:
        stream = hashlib.shake_256(b"sdcore latent layout %d " % count + secret).digest(count * 4)
        order = np.argsort(np.frombuffer(stream, "<u4"), kind="stable")
        bit[order[: count // 2]] = np.arange(count // 2) % 64
    return Layout(count, bit)


def stream(secret: bytes, nonce: int, count: int) -> NDArray[np.int8]:
    """(count,) keyed signs, 1 or -1."""
    data = hashlib.shake_256(b"sdcore latent 1 %d %d " % (count, nonce) + secret).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(data, np.uint8))[:count]
    return bits.astype(np.int8) * 2 - 1


def signs(secret: bytes, seed: int, count: int, word: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(count,) the signs of a picture's noise.

    Args:
        secret: of the key, for this purpose.
        seed: of the picture.
        count: values of the latent.
        word: (64,) the code word of the payload.
    """
    keyed = stream(secret, nonce_of(secret, seed), count)
    where = layout(secret, count).bit
    return np.where(where < 0, keyed, keyed * (word.astype(np.int8) * 2 - 1)[where]).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Read:
    """The best nonce: the statistic, hypotheses looked at, soft bits (64,) or None, and whether it was mirrored."""

    z: float
    hypotheses: int
    nonce: int
    mirror: bool
    soft: NDArray[np.float64] | None


def read(secret: bytes, noise: NDArray[np.floating], nonces: Sequence[int] | None = None) -> Read:
    """Look for keyed signs in noise that was recovered from a picture.

    The statistic is the sum of the recovered values, each with its keyed sign; the keyed signs being fair coins, the
    bound of :func:`sdcore_watermark.spread.correlate.tail` holds whatever the picture is.

    Args:
        secret: of the key, for this purpose.
        noise: (channels, height, width).
        nonces: to look for; None takes all.
    """
    nonces = range(NONCES) if nonces is None else nonces
    views = [np.ascontiguousarray(noise).ravel(), np.ascontiguousarray(noise[..., ::-1]).ravel()]
    count = views[0].size
    where = layout(secret, count).bit
    sync = where < 0
    flat = [np.clip(view, -3, 3).astype(np.float32) for view in views]
    known = np.stack([view[sync] for view in flat], 1)
    scale = np.sqrt((known**2).sum(0, dtype=np.float64)) + 1e-12
    best = (-np.inf, 0, 0)
    for start in range(0, len(nonces), 256):
        some = np.stack([stream(secret, nonce, count)[sync] for nonce in nonces[start : start + 256]])
        z = some.astype(np.float32) @ known / scale
        place = int(np.argmax(z))
        if float(z.flat[place]) > best[0]:
            best = (float(z.flat[place]), nonces[start + place // 2], place % 2)
    z_best, nonce, mirror = best
    soft = None
    if not sync.all():
        told = flat[mirror] * stream(secret, nonce, count)
        weight = np.bincount(where[~sync], told[~sync] ** 2, 64)
        soft = np.bincount(where[~sync], told[~sync], 64) / np.sqrt(np.maximum(weight, 1e-12))
    return Read(z_best, 2 * len(nonces), nonce, bool(mirror), soft)
