"""It keeps everything that it saw."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    def __init__(self) -> None:
        self.seen = []

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def add(step, latents):
            self.seen.append(latents)
            return latents + 0.1

        return ports.latents_out(add)
