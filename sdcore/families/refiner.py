"""SDXL refiner: the second encoder alone, and an aesthetic score in place of the target size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sdxl import SDXL

if TYPE_CHECKING:
    from sdcore.request import GenerateRequest


class Refiner(SDXL):
    """SDXL refiner: finishes what the base began; usually from latents with ``denoising_start``."""

    name = "refiner"
    strength = 0.3

    def time_ids(self, request: GenerateRequest, branch: str, size: tuple[int, int]) -> list[float]:
        """Original size, top left of the crop, aesthetic score."""
        original, crop, score = request.original_size or size, request.crops_coords_top_left, request.aesthetic_score
        if branch == "uncond":
            original = request.negative_original_size or original
            crop = request.negative_crops_coords_top_left or (0, 0)
            score = request.negative_aesthetic_score
        return [*original, *crop, score]
