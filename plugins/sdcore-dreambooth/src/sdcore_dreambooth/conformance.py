"""What this package's plugins are checked with: `sdcore check dreambooth`, `sdcore check textual-inversion`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdcore.testing import Case, PluginConformance, Setting


class DreamBoothConformance(PluginConformance):
    """It brings trainings, and takes no part in drawing."""

    plugin = "dreambooth"


class TextualInversionConformance(PluginConformance):
    """A word of two random vectors for every text encoder."""

    plugin = "textual-inversion"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """A prompt with the word in it."""

        def make(path: Path) -> None:
            import torch

            from .embedding_files import save_embedding

            generator = torch.Generator().manual_seed(5)
            parts: Mapping[str, Any] = setting.model.components
            widths = {name: int(part.config.hidden_size) for name, part in parts.items() if name.startswith("text")}
            save_embedding(
                path, "zwx", {name: torch.randn(2, width, generator=generator) for name, width in widths.items()}
            )

        path = setting.file("zwx.safetensors", make)
        yield Case({"path": str(path)}, "a new word", request={"prompt": "a red zwx"})
