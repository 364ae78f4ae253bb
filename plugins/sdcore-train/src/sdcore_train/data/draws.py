"""Stateless draws: numbers that depend on a seed, a purpose and a place in the training, and on nothing else.

They come straight from hashes and from the raw words of a bit generator, whose values numpy promises to keep, so
they are the same on every machine and with every version of Python and numpy.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sdcore_train.randomness import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def uniforms(count: int, *parts: object) -> list[float]:
    """``count`` numbers in [0, 1) that depend on all parts."""
    text = "\x1f".join(map(str, parts))
    stream = hashlib.shake_128(text.encode()).digest(7 * count)
    # 53 bits fill the mantissa of a float: below 1 for certain.
    return [(int.from_bytes(stream[7 * i : 7 * i + 7], "big") >> 3) * 2.0**-53 for i in range(count)]


def permutation(count: int, *parts: object) -> NDArray[Any]:
    """The numbers 0 to ``count - 1`` (int64) in an order that depends on all parts; all orders are as likely."""
    import numpy as np

    words = np.random.PCG64(number_of(*parts)).random_raw(count)
    return np.argsort(words, kind="stable")
