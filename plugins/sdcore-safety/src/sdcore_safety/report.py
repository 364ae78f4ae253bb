"""SafetyReport: every check with score, threshold and margin; the same run gives the same report, and the same hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .check import Check, Stage
from .policy import Policy

Outcome = Literal["allow", "flag", "blur", "withhold", "error"]
DIGITS = 6


@dataclass(frozen=True)
class Finding:
    """One category of one check.

    Attributes:
        stage: ``prompt``, ``preview`` (the predicted picture amid the steps) or ``image``.
        score: 0 to 1, rounded to six digits.
        threshold: a score of at least this trips; None: not judged.
        margin: threshold minus score: how far it was from tripping; negative or zero where it tripped.
    """

    stage: Stage
    check: str
    version: str
    weights_sha256: str | None
    category: str
    score: float
    threshold: float | None
    margin: float | None
    tripped: bool


@dataclass(frozen=True)
class Failure:
    """A check that gave no verdict at a stage, and what was wrong."""

    stage: Stage
    check: str
    problem: str


@dataclass(frozen=True)
class Override:
    """A failure that was let through, and the reason that whoever set the policy gave."""

    stage: Stage
    check: str
    problem: str
    reason: str


def findings_of(check: Check, stage: Stage, scores: Mapping[str, float], policy: Policy) -> list[Finding]:
    """One finding for every category of a check, by name; scores must be checked already."""
    found = []
    for category in sorted({*check.categories, *scores}):
        score = round(float(scores.get(category, 0.0)), DIGITS)
        threshold = policy.threshold(check.name, category)
        margin = None if threshold is None else round(threshold - score, DIGITS)
        tripped = threshold is not None and score >= threshold
        found.append(
            Finding(stage, check.name, check.version, check.weights_sha256, category, score, threshold, margin, tripped)
        )
    return found


@dataclass(frozen=True)
class SafetyReport:
    """What was looked at, and what came of it. There is no time in it: equal runs have equal reports.

    Attributes:
        outcome: what happened to the picture.
        policy: the options that decided.
        findings, failures, overrides: in the order of stages and names.
        guidance: what acted on the drawing itself: the strength of SLD, the projection.
    """

    outcome: Outcome
    policy: Mapping[str, Any]
    findings: tuple[Finding, ...]
    failures: tuple[Failure, ...] = ()
    overrides: tuple[Override, ...] = ()
    guidance: Mapping[str, Any] | None = None

    @property
    def tripped(self) -> tuple[Finding, ...]:
        """The findings that tripped."""
        return tuple(finding for finding in self.findings if finding.tripped)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "schema": 1,
            "outcome": self.outcome,
            "policy": dict(self.policy),
            "guidance": dict(self.guidance or {}),
            "findings": [asdict(finding) for finding in self.findings],
            "failures": [asdict(failure) for failure in self.failures],
            "overrides": [asdict(override) for override in self.overrides],
        }

    def to_json(self) -> str:
        """The one spelling that is hashed: keys sorted, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of :meth:`to_json`, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
