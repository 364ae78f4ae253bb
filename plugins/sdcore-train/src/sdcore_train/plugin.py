"""The plugin: the command ``sdcore train``, and the training plugins of this package."""

from __future__ import annotations

import importlib

from sdcore import Plugin, Registry, hookimpl

OWN = {
    "methods.full": ("FullTraining",),
    "methods.vae": ("VAETraining",),
    "parts.weighting": ("MinSNRTraining", "DebiasedTraining", "HuberTraining", "WaveletTraining"),
    "parts.perceptual": ("PerceptualTraining", "SelfPerceptualTraining"),
    "parts.drawing": (
        "NoiseOffsetTraining",
        "PyramidNoiseTraining",
        "InputPerturbationTraining",
        "TimestepsTraining",
    ),
}


class TrainPlugin(Plugin):
    """Brings the trainer; it takes no part in drawing pictures."""

    name = "train"

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command and the training plugins."""
        from .cli import fill

        registry.add("cli_command", "train", fill)
        for home, names in OWN.items():
            module = importlib.import_module(f".{home}", __package__)
            for name in names:
                plugin = getattr(module, name)
                registry.add("training", plugin.name, plugin)
