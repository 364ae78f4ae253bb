"""SD2.x: one OpenCLIP encoder whose config already stops at the penultimate layer; otherwise as SD1."""

from __future__ import annotations

from .sd1 import SD1


class SD2(SD1):
    """Stable Diffusion 2.x, epsilon and v-prediction (the scheduler's config says which)."""

    name = "sd2"
