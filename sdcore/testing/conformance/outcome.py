"""Outcome: what a check found, and the exceptions with which checks end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["passed", "failed", "exception", "not applicable", "not run"]


class Failed(AssertionError):
    """The plugin does not keep what the check asks for. The message says what was seen, and what to do."""


class NotApplicable(Exception):
    """There is nothing that the check could look at. The message says why."""


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        check: its name.
        state: ``exception`` is a failure that the plugin declares, with a reason; ``not run`` is a check that rests
            on one that failed.
        detail: why, for every state but ``passed``.
        seconds: how long it took.
    """

    check: str
    state: State
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All outcomes of one plugin on one tier."""

    plugin: str
    distribution: str
    tier: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The failures."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")
