"""What it adds is always float32."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        import torch

        return ports.latents_out(lambda step, latents: latents + torch.full(latents.shape, 0.1))
