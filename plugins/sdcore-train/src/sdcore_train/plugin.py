"""The plugin: the command ``sdcore train``, and the training plugins of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcore import Access, Plugin, Registry, hookimpl

if TYPE_CHECKING:
    import argparse

OWN = {
    "full": "methods.full:FullTraining",
    "vae": "methods.vae:VAETraining",
    "min-snr": "parts.weighting:MinSNRTraining",
    "debiased": "parts.weighting:DebiasedTraining",
    "huber": "parts.weighting:HuberTraining",
    "wavelet": "parts.weighting:WaveletTraining",
    "perceptual": "parts.perceptual:PerceptualTraining",
    "self-perceptual": "parts.perceptual:SelfPerceptualTraining",
    "noise-offset": "parts.drawing:NoiseOffsetTraining",
    "pyramid-noise": "parts.drawing:PyramidNoiseTraining",
    "input-perturbation": "parts.drawing:InputPerturbationTraining",
    "timesteps": "parts.drawing:TimestepsTraining",
}
"""Where each is: named, not imported, because every engine that starts registers them."""


class TrainPlugin(Plugin):
    """Brings the trainer; it takes no part in drawing pictures."""

    name = "train"
    access = Access(
        network=True,
        files=("read", "write"),
        weights=("safetensors", "pickle"),
        when="in training; network: where the model is a hub id; a pickle: only when losses.vgg_weights is run",
    )

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command and the training plugins."""
        registry.add("cli_command", "train", fill)
        for name, home in OWN.items():
            registry.add("training", name, f"{__package__}.{home}")


def fill(parser: argparse.ArgumentParser) -> None:
    """Train models, LoRAs, ControlNets and new words."""
    from . import cli

    cli.fill(parser)
