"""The engine plugin that brings the training plugins; it takes no part in drawing pictures."""

from __future__ import annotations

from sdcore import Plugin, Registry, hookimpl


class DreamBoothPlugin(Plugin):
    """Brings ``sdcore train dreambooth``, ``textual-inversion`` and ``pivotal``."""

    name = "dreambooth"

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the training plugins."""
        from .inversion import TextualInversionTraining
        from .pivotal import PivotalTraining
        from .training import DreamBoothTraining

        for plugin in (DreamBoothTraining, TextualInversionTraining, PivotalTraining):
            registry.add("training", plugin.name, plugin)
