"""The error-correcting code of the payload: 32 bits and a check of 4 in 64 bits, decoded from soft values.

The extended BCH code (64, 36) of minimum distance 12 (generator 1033500423 in octal; Lin and Costello, Error Control
Coding, table 6.1), decoded by ordered statistics of order 2 (Fossorier and Lin 1995), which is close to the best that
any decoder can do. The four bits beside the payload are a check sum that depends on a mask given by the key.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 64
INFO = 36
PAYLOAD = 32
_GENERATOR = 0o1033500423
_CRC = 0b10011  # x^4 + x + 1

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """What was read.

    Attributes:
        payload: from 0 to 2**32 - 1.
        checks: the check sum fits.
        confidence: of each of the 32 bits, from 0.5 to 1: that of the nearest code word which has it otherwise.
        agreement: correlation of the soft values and the code word, up to 1.
        error: fraction of the 64 bits that were received wrongly.
    """

    payload: int
    checks: bool
    confidence: tuple[float, ...]
    agreement: float
    error: float


@functools.cache
def generator_matrix() -> Bits:
    """(36, 64) generator matrix, systematic: the information bits come first."""
    degree = _GENERATOR.bit_length() - 1
    rows = np.zeros((INFO, BITS), np.uint8)
    for place in range(INFO):
        word = 1 << (degree + INFO - 1 - place)
        rest = word
        while rest.bit_length() > degree:
            rest ^= _GENERATOR << (rest.bit_length() - degree - 1)
        word |= rest
        rows[place, : BITS - 1] = [(word >> (62 - bit)) & 1 for bit in range(63)]
        rows[place, BITS - 1] = rows[place, : BITS - 1].sum() & 1
    rows.setflags(write=False)
    return rows


def check_sum(payload: int, mask: int = 0) -> int:
    """Four check bits of a 32-bit payload (CRC-4-ITU), combined with a mask."""
    rest = payload << 4
    while rest.bit_length() > 4:
        rest ^= _CRC << (rest.bit_length() - 5)
    return rest ^ (mask & 15)


def encode(payload: int, mask: int = 0) -> Bits:
    """The 64 bits that stand for a payload from 0 to 2**32 - 1."""
    value = (payload << 4) | check_sum(payload, mask)
    info = np.array([(value >> (INFO - 1 - bit)) & 1 for bit in range(INFO)], np.uint8)
    word: Bits = ((info @ generator_matrix()) & 1).astype(np.uint8)
    return word


def decode(soft: NDArray[np.floating], mask: int = 0) -> Decoded:
    """The most likely code word.

    Args:
        soft: (64,) positive where a bit is 1, negative where it is 0, the larger the surer.
        mask: as given to :func:`encode`.
    """
    values = np.asarray(soft, np.float64)
    words, scores = _candidates(values)
    best = int(np.argmax(scores))
    word, score = words[best], float(scores[best])
    value = int("".join(map(str, word[:INFO])), 2)
    payload, given = value >> 4, value & 15
    energy = float(values @ values)
    noise = max(energy / BITS - (score / BITS) ** 2, 1e-9)
    confidence = []
    for bit in range(PAYLOAD):
        other = scores[words[:, bit] != word[bit]]
        # Two words with correlations a and b have odds exp((a - b) * mean / variance).
        gap = score - float(other.max()) if other.size else 12 * score / BITS * 2
        odds = gap * (score / BITS) / noise
        confidence.append(1.0 / (1.0 + math.exp(-min(max(odds, 0.0), 50.0))))
    return Decoded(
        payload,
        check_sum(payload, mask) == given,
        tuple(confidence),
        score / math.sqrt(BITS * energy) if energy else 0.0,
        float(np.mean((values > 0) != word)),
    )


def _candidates(values: NDArray[np.float64]) -> tuple[Bits, NDArray[np.float64]]:
    """Code words near the received values, and their correlations: all flips of up to two of the surest 36 bits."""
    order = np.argsort(-np.abs(values), kind="stable")
    matrix, order = _systematic(generator_matrix()[:, order], order)
    hard = (values[order] > 0).astype(np.uint8)
    base = (hard[:INFO] @ matrix) & 1
    first, second = np.triu_indices(INFO)
    flips = matrix[first] ^ np.where((first == second)[:, None], 0, matrix[second]).astype(np.uint8)
    words = np.concatenate([base[None], base[None] ^ flips])
    scores = (words.astype(np.float64) * 2 - 1) @ values[order]
    back = np.empty_like(order)
    back[order] = np.arange(BITS)
    return words[:, back], scores


def _systematic(matrix: Bits, order: NDArray[np.intp]) -> tuple[Bits, NDArray[np.intp]]:
    """Gaussian elimination, columns exchanged where a pivot is missing: the surest independent bits come first."""
    matrix, order = matrix.copy(), order.copy()
    for row in range(INFO):
        column = row
        while not matrix[row:, column].any():
            column += 1
        if column != row:
            matrix[:, [row, column]] = matrix[:, [column, row]]
            order[[row, column]] = order[[column, row]]
        pivot = row + int(np.argmax(matrix[row:, row]))
        if pivot != row:
            matrix[[row, pivot]] = matrix[[pivot, row]]
        others = matrix[:, row].astype(bool)
        others[row] = False
        matrix[others] ^= matrix[row]
    return matrix, order
