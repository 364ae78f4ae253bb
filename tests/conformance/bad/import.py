"""Importing it imports torch, which takes seconds, and silences everybody's warnings."""

from __future__ import annotations

import warnings

import torch

from sdcore import Contributions, Plugin, Run, hookimpl, ports

warnings.simplefilter("ignore")


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        return ports.latents_out(lambda step, latents: latents + torch.full_like(latents, 0.1))
