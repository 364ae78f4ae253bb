"""Its hook is not marked."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    def step(self, run: Run) -> Contributions:
        return ports.latents_out(lambda step, latents: latents + 0.1)
