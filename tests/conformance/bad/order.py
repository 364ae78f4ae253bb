"""Its cache is keyed by the step alone."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number that is made of the prompt."""

    name = "bad"

    def __init__(self) -> None:
        self.cache: dict[int, float] = {}

    @hookimpl
    def step(self, run: Run) -> Contributions:
        length = len(run.request.prompt)
        return ports.latents_out(lambda step, latents: latents + 0.01 * self.cache.setdefault(step.index, length))
