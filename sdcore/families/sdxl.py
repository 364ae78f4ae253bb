"""SDXL base: two encoders side by side, pooled text, and the sizes that the picture claims (arXiv 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdcore.stages import Conditioning, TextEncoding

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.models import Model
    from sdcore.request import GenerateRequest


class SDXL:
    """SDXL base."""

    name: str = "sdxl"
    steps = 30
    guidance_scale = 5.0
    strength = 0.75
    careful_codec = True

    def encode(
        self, encoder: Any, ids: Tensor, mask: Tensor | None, clip_skip: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """The penultimate hidden state without final norm, and the projected pooled text where there is one."""
        output = encoder(ids, output_hidden_states=True)
        return output.hidden_states[-((clip_skip or 0) + 2)], getattr(output, "text_embeds", None)

    def conditioning(
        self,
        model: Model,
        request: GenerateRequest,
        branch: str,
        size: tuple[int, int],
        encodings: Sequence[TextEncoding],
    ) -> Conditioning:
        """Hidden states side by side, the last encoder's pooled text, the time ids."""
        import torch

        context = torch.cat([encoding.hidden for encoding in encodings], dim=-1)
        pooled = next(encoding.pooled for encoding in reversed(encodings) if encoding.pooled is not None)
        if branch == "uncond" and request.negative_prompt is None and model.config.get("force_zeros_for_empty_prompt"):
            context, pooled = torch.zeros_like(context), torch.zeros_like(pooled)
        ids = self.time_ids(request, branch, size)
        return Conditioning(context, pooled, torch.tensor([ids], dtype=context.dtype, device=context.device))

    def time_ids(self, request: GenerateRequest, branch: str, size: tuple[int, int]) -> list[float]:
        """Original size, top left of the crop, target size: each (height, width)."""
        original, crop = request.original_size or size, request.crops_coords_top_left
        target = request.target_size or size
        if branch == "uncond":
            original = request.negative_original_size or original
            crop = request.negative_crops_coords_top_left or crop
            target = request.negative_target_size or target
        return [*original, *crop, *target]
