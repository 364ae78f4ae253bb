"""Noise that a seed and its neighbour share by half."""

import torch

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class BlendPlugin(Plugin):
    name = "blend"

    @hookimpl
    def latents(self, run: Run) -> Contributions:
        def noise(args):
            mine = torch.randn(args.shape, generator=args.generator)
            other = torch.randn(args.shape, generator=torch.Generator().manual_seed(args.seed + 1))
            return (mine + other) / 2**0.5

        return ports.noise(noise)
