"""A run that ends early leaves it in another state."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    def __init__(self) -> None:
        self.busy = False

    @hookimpl
    def step(self, run: Run) -> Contributions:
        more, self.busy = 0.2 if self.busy else 0.1, True

        def add(step, latents):
            if step.index + 1 == step.count:
                self.busy = False
            return latents + more

        return ports.latents_out(add)
