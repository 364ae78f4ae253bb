"""What this package's plugin is checked with: `sdcore check lora`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sdcore.testing import Case, PluginConformance, Setting


class LoRAConformance(PluginConformance):
    """A LoRA that is merged, and one that is scheduled and runs beside the layers."""

    plugin = "lora"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """The same small random file twice, made for the setting's model."""
        from sdcore.testing.tiny_lora import tiny_lora

        def make(path: Path) -> None:
            tiny_lora(path, setting.model)

        path = str(setting.file("style.safetensors", make))
        yield Case({"path": path, "weight": 0.8}, "merged", {"weight": 0})
        yield Case({"path": path, "weight": [[0, 0.2], [1, 1]]}, "scheduled", {"weight": 0})
