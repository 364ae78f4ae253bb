"""It takes a mean over the pictures of a batch."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Centres the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        return ports.latents_out(lambda step, latents: latents - 0.5 * latents.mean(dim=0, keepdim=True))
