"""Inpainting with sdcore-inpaint against the diffusers pipelines on the same files: ratios, never times.

Both sides are interleaved in rounds of random order within one process, on one thread, measured as process time; the
figure is the median over rounds of the ratio within a round. The bar is 1.00: never slower. Before it measures, it
checks that both sides make the same latents. It writes benchmarks/results/inpaint.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead import process_seconds, small_sd15

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

HERE = Path(__file__).parent
PROMPT = "a green apple, flat style, white background"
BAR = 1.0


def compare(
    folder: Path, size: int, steps: int, guidance: float, strength: float, rounds: int, count: int = 1
) -> dict[str, Any]:
    """The ratio of sdcore to the diffusers pipeline on one model, and whether their latents are the same."""
    import torch
    from diffusers import StableDiffusionInpaintPipeline
    from PIL import Image, ImageDraw
    from sdcore_inpaint import Inpaint, InpaintPlugin

    from sdcore import Engine

    torch.set_num_threads(1)
    pipe = StableDiffusionInpaintPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    engine = Engine.load(folder, plugins=[InpaintPlugin])
    image = Image.effect_noise((size, size), 80).convert("RGB")
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((size // 5, size // 4, size * 4 // 5, size * 4 // 5), fill=255)
    seeds = tuple(range(1, count + 1))

    def theirs(output: str = "pil") -> Any:
        return pipe(
            PROMPT, image=[image] * count, mask_image=mask, height=size, width=size, strength=strength,
            num_inference_steps=steps, guidance_scale=guidance, output_type=output, num_images_per_prompt=count,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images  # fmt: skip

    def ours(output: str = "image") -> Any:
        return engine.generate(
            PROMPT, image=image, steps=steps, guidance_scale=guidance, strength=strength, seeds=seeds,
            batch_size=count, output=output, use=[Inpaint(mask=mask)],
        )  # fmt: skip

    identical = bool(torch.equal(theirs("latent"), ours("latent").latents))
    variants: dict[str, Callable[[], object]] = {"diffusers": theirs, "sdcore": ours}
    spent: dict[str, list[float]] = {name: [] for name in variants}
    shuffled = random.Random(0)
    for round_ in range(rounds + 1):
        for name in shuffled.sample(list(variants), len(variants)):  # a run's speed depends on what ran before it
            seconds = process_seconds(variants[name])
            if round_:  # the first round warms up
                spent[name].append(seconds)
    ratios = [mine / base for mine, base in zip(spent["sdcore"], spent["diffusers"], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "channels": engine.model.unet.config.in_channels,
        "strength": strength,
        "steps": steps,
        "pictures": count,
        "rounds": rounds,
        "identical_latents": identical,
        "ratio_to_diffusers": ratio,
        "quartiles": statistics.quantiles(ratios, n=4) if rounds > 1 else [ratio] * 3,
        "within_the_bar": ratio <= BAR,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "inpaint.json")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    warnings.simplefilter("ignore")
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from sdcore.models import installed_models

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    mini = next(Path(model.path) for model in installed_models() if model.name == "mini" and model.path)
    results: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "threads": 1,
        "bar": BAR,
    }
    with tempfile.TemporaryDirectory() as scratch:
        four, nine = (small_sd15(Path(scratch) / str(channels), channels) for channels in (4, 9))
        results["embedded model, 25 steps, strength 1"] = compare(mini, 64, 25, 4.0, 1.0, rounds)
        results["embedded model, 25 steps, strength 0.6"] = compare(mini, 64, 25, 4.0, 0.6, rounds)
        results["small SD1.5 shape, 4 channels"] = compare(four, 128, 8, 7.5, 1.0, rounds)
        results["small SD1.5 shape, 4 channels, 2 pictures"] = compare(four, 128, 8, 7.5, 1.0, rounds, 2)
        results["small SD1.5 shape, 9 channels"] = compare(nine, 128, 8, 7.5, 1.0, rounds)
        results["small SD1.5 shape, 9 channels, strength 0.6"] = compare(nine, 128, 8, 7.5, 0.6, rounds)
    print(report(results))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


def report(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = ["| what | sdcore / diffusers | quartiles | latents |", "|---|---|---|---|"]
    for name, found in results.items():
        if isinstance(found, dict) and "ratio_to_diffusers" in found:
            low, _, high = found["quartiles"]
            same = "identical" if found["identical_latents"] else "differ"
            lines.append(f"| {name} | {found['ratio_to_diffusers']:.3f} | {low:.3f} to {high:.3f} | {same} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
