"""What this package raises on purpose."""

from __future__ import annotations

from sdcore.errors import SdcoreError


class SafetyUnavailable(SdcoreError):
    """A check could not give a score: weights missing or altered, an exception, a score that is no number, no answer.

    Attributes:
        check: name of the check.
        problem: what was wrong, for people and for the report.
    """

    def __init__(self, check: str, problem: str) -> None:
        super().__init__(f"safety check {check!r} gave no verdict: {problem}")
        self.check = check
        self.problem = problem
