"""What a detector says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

FPR = 1e-6
"""The rate of false alarms at which commands and benchmarks call a mark found."""


def matching_p_value(read: int, expected: int, bits: int = 32) -> float:
    """Probability that fair coins agree with the expected bits in as many places as what was read does.

    It holds for any picture and any detector, provided that the expected payload was drawn at random: then it is the
    payload that agrees with a picture's bits by chance, however the picture's bits came about.
    """
    agree = bits - (read ^ expected).bit_count()
    return sum(math.comb(bits, more) for more in range(agree, bits + 1)) / 2.0**bits


@dataclass(frozen=True)
class Detection:
    """How sure it is that a picture bears a mark. Not a boolean: that depends on the false alarms one can bear.

    Attributes:
        scheme: name of the scheme.
        p_value: bound on the probability of at least this score in a picture that does not bear the mark; 1 where the
            scheme cannot tell without knowing which payload is looked for.
        score: the scheme's statistic, in standard deviations of the null hypothesis.
        payload: what it bears; None if that could not be read for sure, or the scheme's mark bears nothing.
        bit_confidence: for every bit of the payload, from 0.5 to 1; empty if there are none.
        geometry: how the picture was changed: scale, angle, mirror, shift, as far as the scheme finds out.
        key_id: of the key generation that fits best.
        guess: the payload as it was read, sure or not; None if there are no bits.
    """

    scheme: str
    p_value: float
    score: float
    payload: int | None
    bit_confidence: tuple[float, ...]
    geometry: dict[str, Any] = field(default_factory=dict)
    key_id: str = ""
    guess: int | None = None

    def found(self, fpr: float = FPR) -> bool:
        """Whether the mark is there, if one in ``1 / fpr`` unmarked pictures may be called marked."""
        return self.p_value <= fpr

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the payload in hex."""
        payload, guess = (None if bits is None else f"{bits:08x}" for bits in (self.payload, self.guess))
        return asdict(self) | {
            "payload": payload,
            "guess": guess,
            "bit_confidence": [round(c, 4) for c in self.bit_confidence],
        }

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a Detection is not true or false: use detection.found(fpr=1e-6), or compare detection.p_value with "
            "the rate of false alarms that you can bear"
        )
