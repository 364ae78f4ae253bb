"""Inpainting with sdcore-inpaint against the diffusers pipelines on the same files: ratios, never times.

The bar is 1.00: never slower. It writes benchmarks/results/inpaint.json; see measuring.py for how it measures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import measuring
from overhead import small_sd15

PROMPT = "a green apple, flat style, white background"
BAR = 1.0


def compare(
    folder: Path, size: int, steps: int, guidance: float, strength: float, rounds: int, count: int = 1
) -> dict[str, Any]:
    """The ratio of sdcore to the diffusers pipeline on one model."""
    import torch
    from diffusers import StableDiffusionInpaintPipeline
    from PIL import Image, ImageDraw
    from sdcore_inpaint import Inpaint, InpaintPlugin

    from sdcore import Engine

    pipe = StableDiffusionInpaintPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    engine = Engine.load(folder, plugins=[InpaintPlugin])
    image = Image.effect_noise((size, size), 80).convert("RGB")
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((size // 5, size // 4, size * 4 // 5, size * 4 // 5), fill=255)
    seeds = tuple(range(1, count + 1))

    def theirs(output: str) -> Any:
        return pipe(
            PROMPT, image=[image] * count, mask_image=mask, height=size, width=size, strength=strength,
            num_inference_steps=steps, guidance_scale=guidance, output_type=output, num_images_per_prompt=count,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images  # fmt: skip

    def ours(output: str) -> Any:
        result = engine.generate(
            PROMPT, image=image, steps=steps, guidance_scale=guidance, strength=strength, seeds=seeds,
            batch_size=count, use=[Inpaint(mask=mask)], output="latent" if output == "latent" else "image",
        )  # fmt: skip
        return result.latents

    about = {"channels": engine.model.unet.config.in_channels, "strength": strength, "steps": steps, "pictures": count}
    return {**about, **measuring.ratio_of(ours, theirs, rounds, BAR)}


def measure(rounds: int) -> dict[str, Any]:
    """All cases."""
    # Not the embedded model: diffusers' inpainting takes 4 or 9 channels, and its latents have 8.
    with tempfile.TemporaryDirectory() as scratch:
        four, nine = (small_sd15(Path(scratch) / str(channels), channels) for channels in (4, 9))
        return {
            "small SD1.5 shape, 4 channels": compare(four, 128, 8, 7.5, 1.0, rounds),
            "small SD1.5 shape, 4 channels, 2 pictures": compare(four, 128, 8, 7.5, 1.0, rounds, 2),
            "small SD1.5 shape, 9 channels": compare(nine, 128, 8, 7.5, 1.0, rounds),
            "small SD1.5 shape, 9 channels, strength 0.6": compare(nine, 128, 8, 7.5, 0.6, rounds),
        }


if __name__ == "__main__":
    measuring.main("inpaint", __doc__, BAR, measure)
