"""Redrawing by the engine's own model: through its codec, and image to image. Pixel marks do not survive that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attacks import Attack

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore import Engine


def regenerations(engine: Engine) -> dict[str, Attack]:
    """The attacks ``vae`` and ``img2img`` (strength 0.2 and 0.5)."""

    def draw(image: Image, seed: int, strength: float) -> Image:
        made = engine.generate("", image=image, strength=strength, seed=seed, steps=20, guidance_scale=1.0)
        return made.images[0]

    return {
        "vae": lambda image, seed: draw(image, seed, 0.0),
        "img2img0.2": lambda image, seed: draw(image, seed, 0.2),
        "img2img0.5": lambda image, seed: draw(image, seed, 0.5),
    }
