"""It takes it for granted that there are two branches."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Scales what the U-Net is given in one of the branches."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        import torch

        def scale(inputs):
            first, second = inputs.sample.chunk(2)
            return inputs.replace(sample=torch.cat([first, 1.1 * second]))

        return ports.unet_input(scale)
