"""What belongs to a run is kept on the class."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number that is made of the prompt."""

    name = "bad"
    length = 0

    @hookimpl
    def step(self, run: Run) -> Contributions:
        Bad.length = len(run.request.prompt)
        return ports.latents_out(lambda step, latents: latents + 0.01 * Bad.length)
