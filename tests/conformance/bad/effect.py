"""It does nothing."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Looks at the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        return ports.latents_out(lambda step, latents: None)
