"""The engine plugin that brings the training plugins; it takes no part in drawing pictures."""

from __future__ import annotations

from sdcore import Access, Plugin, Registry, hookimpl


class DreamBoothPlugin(Plugin):
    """Brings ``sdcore train dreambooth``, ``textual-inversion`` and ``pivotal``."""

    name = "dreambooth"
    access = Access(
        network=True,
        files=("read", "write"),
        weights=("safetensors",),
        when="in training; network: where the model is a hub id",
    )

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the training plugins."""
        registry.add("training", "dreambooth", f"{__package__}.training:DreamBoothTraining")
        registry.add("training", "textual-inversion", f"{__package__}.inversion:TextualInversionTraining")
        registry.add("training", "pivotal", f"{__package__}.pivotal:PivotalTraining")
