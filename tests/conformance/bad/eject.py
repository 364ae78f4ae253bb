"""It changes a class that everybody uses."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def ready(unet) -> bool:
            return True

        type(run.model.unet).ready = ready
        return ports.latents_out(lambda step, latents: latents + 0.1)
