"""It seeds and uses the global generator."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds noise."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        import torch

        torch.manual_seed(run.seeds[0])
        noise = torch.randn(1)
        return ports.latents_out(lambda step, latents: latents + noise.to(latents))
