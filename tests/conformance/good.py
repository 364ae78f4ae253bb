"""A plugin that passes every check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.testing import PluginConformance

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.stages import Step


class Good(Options):
    strength: float = Field(default=0.5, ge=0, le=1, description="how much is added")


class GoodPlugin(Plugin):
    """Adds a number to the latents."""

    name = "good"
    options = Good

    @hookimpl
    def step(self, run: Run) -> Contributions:
        strength = sum(used.strength for used in run.uses(Good))

        def add(step: Step, latents: Tensor) -> Tensor:
            return latents + 0.1 * strength

        return ports.latents_out(add)


class GoodConformance(PluginConformance):
    plugin = "good"
    neutral = {"strength": 0}
