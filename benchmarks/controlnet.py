"""sdcore with ControlNets against the diffusers ControlNet pipeline on the same files: ratios, never times.

Both sides are interleaved in rounds of random order within one process, on one thread, measured as process time; the
figure is the median over rounds of the ratio within a round. The bar is 0.95. Before it measures, it checks that both
sides make the same latents. It writes benchmarks/results/controlnet.json.
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
PROMPT = "a red apple, photo of the house"
BAR = 0.95
SIZE, STEPS, GUIDANCE = 128, 8, 7.5


def small_controlnet(model: Path, folder: Path, seed: int) -> Path:
    """A ControlNet for the small SD1.5 shape, with the published condition embedding: 8 pixels to a latent."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    net: Any = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(model, subfolder="unet"))
    with torch.no_grad():
        for convolution in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
            torch.nn.init.normal_(convolution.weight, std=0.02)
        torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.02)
    net.save_pretrained(folder)
    return folder


def compare(model: Path, nets: list[Path], rounds: int, guess: bool = False) -> dict[str, Any]:
    """The ratio of sdcore to diffusers with these nets, and whether their latents are the same."""
    import torch
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
    from PIL import Image
    from sdcore_controlnet import ControlNet, ControlNetPlugin

    from sdcore import Engine

    torch.set_num_threads(1)
    loaded = [ControlNetModel.from_pretrained(net) for net in nets]
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        model, controlnet=loaded[0] if len(loaded) == 1 else loaded, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    engine = Engine.load(model, plugins=[ControlNetPlugin])
    image = Image.effect_noise((SIZE, SIZE), 80).convert("RGB")
    mode = "control" if guess else "balanced"
    use = [ControlNet(model=str(net), image=image, scale=0.8, mode=mode) for net in nets]

    def theirs(output: str = "pil") -> Any:
        return pipe(
            PROMPT, image=image if len(nets) == 1 else [image] * len(nets), height=SIZE, width=SIZE,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type=output, guess_mode=guess,
            controlnet_conditioning_scale=0.8 if len(nets) == 1 else [0.8] * len(nets),
            generator=[torch.Generator().manual_seed(1)],
        ).images  # fmt: skip

    def ours(output: str = "image") -> Any:
        return engine.generate(
            PROMPT, height=SIZE, width=SIZE, steps=STEPS, guidance_scale=GUIDANCE, seed=1, output=output, use=use
        )

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
        "nets": len(nets),
        "mode": mode,
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
    parser.add_argument("--out", type=Path, default=HERE / "results" / "controlnet.json")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    warnings.simplefilter("ignore")
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    results: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "threads": 1,
        "bar": BAR,
    }
    with tempfile.TemporaryDirectory() as scratch:
        model = small_sd15(Path(scratch) / "model")
        nets = [small_controlnet(model, Path(scratch) / f"net{seed}", seed) for seed in (1, 2)]
        results["one ControlNet"] = compare(model, nets[:1], rounds)
        results["two ControlNets"] = compare(model, nets, rounds)
        results["one ControlNet, guess mode"] = compare(model, nets[:1], rounds, guess=True)
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
