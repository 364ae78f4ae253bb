"""At strength 0 it adds and subtracts, which rounds."""

from __future__ import annotations

from pydantic import Field

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.testing import PluginConformance


class Strength(Options):
    strength: float = Field(default=1.0, description="how much is added")


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"
    options = Strength

    @hookimpl
    def step(self, run: Run) -> Contributions:
        (used,) = run.uses(Strength)
        return ports.latents_out(lambda step, latents: latents - 0.1 + (0.1 + used.strength))


class BadConformance(PluginConformance):
    plugin = "bad"
    neutral = {"strength": 0}
