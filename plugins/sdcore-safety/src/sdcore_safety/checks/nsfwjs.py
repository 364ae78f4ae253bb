"""The check ``nsfwjs``: the MobileNetV2 of nsfwjs, for drawings and photographs. Its weights are in the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.files import sha256_file
from sdcore_safety.check import CheckSettings, ImageCheck

from . import mobilenet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

WEIGHTS = Path(__file__).parent.parent / "data" / "nsfwjs_mobilenet_v2.safetensors"
SHA256 = "b19e637e10956cf73ecb047b727f6b5fd45a0f00b3acd12bb0800a42cd8826ca"
BATCH = 16
BORDER = 0.8
"""The probability that scores 0.5. From 0.5 on three of a hundred harmless pictures would trip, from 0.8 on one of two
hundred; the README has the rates and names the pictures."""


class NsfwjsCheck(ImageCheck):
    """Scores from the probabilities of porn and hentai together (``sexual``) and sexy (``suggestive``)."""

    name = "nsfwjs"
    version = "4.3.0"
    categories = ("sexual", "suggestive")

    def __init__(self, settings: CheckSettings) -> None:
        """Read the weights.

        Raises:
            OSError, ValueError: they are missing, or are not those that this version was made with.
        """
        super().__init__(settings)
        path = Path(settings.values.get("path", WEIGHTS))
        found = sha256_file(path)
        if found != SHA256:
            raise ValueError(f"{path.name} has SHA-256 {found}, expected {SHA256}: reinstall sdcore-safety")
        self._weights = mobilenet.read_weights(path)

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the file."""
        return SHA256

    def score(self, image: Image) -> Mapping[str, float]:
        """Of one picture."""
        return self.score_many([image])[0]

    def score_many(self, images: Sequence[Image]) -> list[Mapping[str, float]]:
        """Of several pictures."""
        found: list[Mapping[str, float]] = []
        for chances in mobilenet.probabilities(self.features(images), self._weights).tolist():
            named = dict(zip(mobilenet.CLASSES, chances, strict=True))
            found.append({"sexual": to_score(named["porn"] + named["hentai"]), "suggestive": to_score(named["sexy"])})
        return found

    def features(self, images: Sequence[Image]) -> Tensor:
        """What the layer before the last holds: (pictures, 128)."""
        import torch

        with torch.no_grad():
            parts = []
            for at in range(0, len(images), BATCH):
                batch = torch.cat([mobilenet.to_input(_pixels(image)) for image in images[at : at + BATCH]])
                parts.append(mobilenet.features(batch, self._weights))
            return torch.cat(parts)


def to_score(probability: float) -> float:
    """0 to 1: straight to 0.5 at :data:`BORDER`, and straight from there to 1. NaN stays NaN."""
    if probability <= BORDER:
        return 0.5 * probability / BORDER
    return 0.5 + 0.5 * (probability - BORDER) / (1 - BORDER)


def _pixels(image: Image) -> Tensor:
    import numpy as np
    import torch

    values = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None]
