"""Policy: which score of which check is too much, and what happens then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["block", "blur", "flag"]
Profile = Literal["strict", "standard", "research"]

CATEGORIES: Mapping[str, str] = {
    "sexual": "explicit sexual content",
    "suggestive": "revealing or sexualised, not explicit",
    "minors": "sexual content together with minors",
    "violence": "gore, cruelty, killing",
    "hate": "hatred of groups of people, its symbols and slurs",
    "self-harm": "suicide and self-injury",
    "special-care": "what the CLIP safety checker looks at with special care",
}
"""The categories of the checks of this package; checks of others may have more."""

_LESS_SURE = ("suggestive", "special-care")
"""Judged under ``strict`` only (and flagged under ``research``): much of what it finds is no harm."""

DEFAULTS: Mapping[Profile, float] = {"strict": 0.3, "standard": 0.5, "research": 0.8}
ACTIONS: Mapping[Profile, Action] = {"strict": "block", "standard": "block", "research": "flag"}


def profile_threshold(profile: Profile, category: str) -> float | None:
    """The threshold of a profile: a score of at least this trips; None for a category that it does not judge.

    Sexual content with minors is judged strictly under every profile.
    """
    if category == "minors":
        return DEFAULTS["strict"]
    if category in _LESS_SURE:
        return {"strict": 0.5, "standard": None, "research": DEFAULTS["research"]}[profile]
    return DEFAULTS[profile]


@dataclass(frozen=True)
class Policy:
    """Thresholds and what happens.

    Attributes:
        profile: where thresholds come from that are not given.
        thresholds: by ``"category"`` or ``"check:category"``; None: not judged.
        action: ``block`` withholds, ``blur`` makes the picture unrecognisable, ``flag`` reports.
    """

    profile: Profile = "standard"
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    action: Action = "block"

    def threshold(self, check: str, category: str) -> float | None:
        """What counts for this category of this check; the narrower setting wins."""
        for key in (f"{check}:{category}", category):
            if key in self.thresholds:
                return self.thresholds[key]
        return profile_threshold(self.profile, category)
