"""No other process can find the class of its options."""

from __future__ import annotations

from pydantic import Field

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports


def make() -> type[Options]:
    class Strength(Options):
        strength: float = Field(default=0.5, description="how much is added")

    return Strength


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"
    options = make()

    @hookimpl
    def step(self, run: Run) -> Contributions:
        (used,) = run.uses(self.options)
        return ports.latents_out(lambda step, latents: latents + used.strength)
