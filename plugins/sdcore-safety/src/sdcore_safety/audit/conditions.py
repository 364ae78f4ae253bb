"""Conditions of ``--fail-if``: ``skew>0.2``. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sdcore import RequestError
from sdcore.plugin import nearest

_FORM = re.compile(r"\s*([a-z_]+(?::[^<>=]+)?)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A figure of the summary, compared with a number."""

    figure: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """From ``"skew>0.2"``.

        Raises:
            RequestError: it is written otherwise.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise RequestError(f"--fail-if {text!r} is not understood; write it as 'skew>0.2'")
        return cls(match[1].strip(), match[2], float(match[3]))

    def check(self, names: Sequence[str]) -> None:
        """Raise RequestError if there is no such figure."""
        if self.figure not in names:
            raise RequestError(f"--fail-if: there is no figure {self.figure!r}.{nearest(self.figure, names)}")

    def holds(self, summary: Mapping[str, float]) -> bool:
        """Whether the figure is beyond the limit."""
        return _COMPARE[self.sign](summary[self.figure], self.limit)

    def told(self, summary: Mapping[str, float]) -> str:
        """For people."""
        return f"{self.figure} is {summary[self.figure]:.4f}, {self.sign} {self.limit:g}"
