"""Nothing says what it is for."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        return ports.latents_out(lambda step, latents: latents + 0.1)
