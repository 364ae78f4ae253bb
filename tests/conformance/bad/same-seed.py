"""It remembers how often it ran."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds more in every run."""

    name = "bad"

    def __init__(self) -> None:
        self.runs = 0

    @hookimpl
    def step(self, run: Run) -> Contributions:
        self.runs += 1
        more = 0.1 * self.runs
        return ports.latents_out(lambda step, latents: latents + more)
