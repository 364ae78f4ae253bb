"""Fixed settings of the evaluation: how subjects are learnt and what is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TOKEN = "qzv"
SEED = 0


@dataclass(frozen=True)
class Plan:
    """One way to learn a subject.

    Attributes:
        mode: "full" or "lora".
        prior: weight of the prior; 0 is none.
        steps, rate, batch: of the training; a batch without prior has the subject's part of it alone.
    """

    mode: str
    prior: float
    steps: int
    rate: float
    batch: int = 4

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.mode}, {'with' if self.prior else 'without'} prior"


PLANS = (
    Plan("full", 0.0, 120, 2e-4),
    Plan("full", 1.0, 120, 2e-4),
    Plan("lora", 0.0, 120, 4e-3),
    Plan("lora", 1.0, 120, 4e-3),
)
LORA: dict[str, Any] = {"rank": 16}
PICTURES = 5
CLASS_PICTURES = 96
CLASS_STEPS = 15
DRAWN_STEPS = 20
SEEDS_OF_SUBJECT = 2
SEEDS_OF_CLASS = 2
CLASS_SEED, DRIFT_SEED = 1000, 9000
"""Seeds of the class pictures that are trained on, and of those whose drift is measured: no seed is both."""


def facts() -> dict[str, Any]:
    """All settings as JSON: an evaluation with others begins anew."""
    return {name: value for name, value in globals().items() if name.isupper() and name != "PLANS"} | {
        "plans": [plan.batch for plan in PLANS]
    }
