"""It leaves a hook on the U-Net."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        run.model.unet.register_forward_hook(lambda module, args, output: None)
        return ports.latents_out(lambda step, latents: latents + 0.1)
