"""The check ``clip-checker``: the safety checker that Stable Diffusion 1 came with, with the scores that it threw away.

A CLIP picture vector is compared with 17 concepts and 3 "special care" ones, each with a threshold in the weights
(Rando et al., arXiv 2210.04610, describe it). The arithmetic is that of diffusers' StableDiffusionSafetyChecker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.files import sha256_file
from sdcore_safety.check import CheckSettings, ImageCheck

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SLOPE = 10.0
"""Score for each unit of cosine beyond a concept's threshold, which itself scores 0.5."""
_OWN = ("concept_embeds", "special_care_embeds", "concept_embeds_weights", "special_care_embeds_weights")


def margins(vectors: Tensor, own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """How far pictures are beyond the thresholds: (pictures, concepts) and (pictures, special), positive: flagged.

    Args:
        vectors: (pictures, width) projected picture vectors.
        own: ``concept_embeds`` (concepts, width), its thresholds ``concept_embeds_weights`` (concepts,), and the same
            of ``special_care``.

    Rounded to three digits as the original does. Where anything special is flagged, the others count 0.01 more; among
    the special ones, those behind the first that is flagged.
    """
    import torch
    from torch.nn.functional import normalize

    unit = normalize(vectors.float())

    def beyond(name: str) -> Tensor:
        cosines = unit @ normalize(own[f"{name}_embeds"].float()).T
        return cosines - own[f"{name}_embeds_weights"].float()

    special = beyond("special_care")
    flagged = torch.round(special, decimals=3) > 0
    earlier = torch.cumsum(flagged.int(), dim=1) - flagged.int() > 0
    special = torch.round(special + 0.01 * earlier, decimals=3)
    raised = 0.01 * (special > 0).any(dim=1, keepdim=True)
    return torch.round(beyond("concept") + raised, decimals=3), special


class ClipChecker(ImageCheck):
    """Scores of the original: above 0.5 is what it would have made black."""

    name = "clip-checker"
    version = "1"
    categories = ("sexual", "special-care")

    def __init__(self, settings: CheckSettings) -> None:
        """Load the folder ``path`` of the settings (config.json, model.safetensors).

        Raises:
            ValueError, OSError, KeyError: no path, no such files, or not those of a safety checker.
        """
        super().__init__(settings)
        path = settings.values.get("path")
        if not path:
            raise ValueError("it needs Safety(clip_checker='FOLDER') with config.json and model.safetensors")
        folder = Path(path)
        files = [folder / "config.json", folder / "model.safetensors"]
        self._digest = hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()
        expected = settings.values.get("sha256")
        if expected and self._digest != expected:
            raise ValueError(f"{folder.name} has SHA-256 {self._digest}, expected {expected}")
        self._load(json.loads(files[0].read_text("utf-8")), files[1])

    def _load(self, config: Mapping[str, Any], file: Path) -> None:
        from safetensors.torch import load_file
        from transformers.models.clip.configuration_clip import CLIPVisionConfig
        from transformers.models.clip.modeling_clip import CLIPVisionModel

        weights = load_file(file)
        self._own = {name: weights.pop(name) for name in _OWN}
        self._projection = weights.pop("visual_projection.weight").float()
        settings = dict(config.get("vision_config") or {})
        self._size = int(settings.get("image_size", 224))
        vision = CLIPVisionModel(CLIPVisionConfig(**settings))
        body = {key.rpartition("vision_model.")[2]: value for key, value in weights.items() if "vision_model." in key}
        body = {key: value for key, value in body.items() if not key.endswith("position_ids")}
        names = {key.removeprefix("vision_model."): key for key in vision.state_dict() if "position_ids" not in key}
        missing = names.keys() - body.keys()
        if missing:
            raise ValueError(
                f"{file.name} lacks {len(missing)} weights of its picture encoder, {min(missing)} among them"
            )
        vision.load_state_dict({names[key]: body[key].float() for key in names}, strict=False)
        self._vision: Any = vision.eval()

    @property
    def weights_sha256(self) -> str:
        """SHA-256 over those of config.json and model.safetensors."""
        return self._digest

    def score(self, image: Image) -> Mapping[str, float]:
        """Of one picture."""
        return self.score_many([image])[0]

    def score_many(self, images: Sequence[Image]) -> list[Mapping[str, float]]:
        """Of several pictures."""
        import torch

        found: list[Mapping[str, float]] = []
        with torch.no_grad():
            for image in images:
                pooled = self._vision(to_input(image, self._size)).pooler_output
                concepts, special = margins(pooled @ self._projection.T, self._own)
                found.append(
                    {
                        "sexual": _score(concepts.amax().item()),
                        "special-care": _score(special.amax().item()),
                    }
                )
        return found


def _score(margin: float) -> float:
    """0 to 1; the smallest step beyond the threshold is above 0.5, the threshold itself below. NaN stays NaN."""
    if margin != margin:
        return margin
    return min(max(0.5 + SLOPE * (margin - 0.0005), 0.0), 1.0)


def to_input(image: Image, size: int) -> Tensor:
    """(1, 3, size, size): the short side scaled (bicubic), the middle cut out, CLIP's mean and deviation."""
    import numpy as np
    import torch
    from PIL.Image import Resampling

    image = image.convert("RGB")
    width, height = image.size
    scale = size / min(width, height)
    image = image.resize((max(size, int(width * scale)), max(size, int(height * scale))), Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    values = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    values = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(values).permute(2, 0, 1)[None]
