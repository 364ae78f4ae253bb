"""Its options, read back, are other options."""

from __future__ import annotations

from pydantic import Field, field_validator

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports


class Percent(Options):
    strength: float = Field(default=50.0, ge=0, le=100, description="how much is added, in percent")

    @field_validator("strength")
    @classmethod
    def _fraction(cls, value: float) -> float:
        return value / 100


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"
    options = Percent

    @hookimpl
    def step(self, run: Run) -> Contributions:
        (used,) = run.uses(Percent)
        return ports.latents_out(lambda step, latents: latents + used.strength)
