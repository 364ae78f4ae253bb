"""What a LoRA costs a step: ratios, never times.

A constant LoRA against none (it is merged, so that a step costs nothing) and against the diffusers pipeline with the
same file active in peft; one that is on for half the steps, and one whose weight changes in every step.

Variants are interleaved in rounds within one process, on one thread, measured as process time; the figure is the
median over rounds of the ratio within a round. Writes benchmarks/results/lora.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead import HERE, PROMPT, process_seconds, small_sd15

WEIGHT = 0.8
LONG, SHORT = 8, 2
"""Steps of the two runs whose difference is what steps cost, without what is done once per run."""


def measure(folder: Path, size: int, rank: int, rounds: int) -> dict[str, Any]:
    """Costs of a step on one model, as ratios."""
    import torch
    from diffusers import StableDiffusionPipeline
    from sdcore_lora import LoRA, LoRAPlugin

    from sdcore import Engine
    from sdcore.testing.tiny_lora import tiny_lora

    torch.set_num_threads(1)
    file = tiny_lora(folder.parent / f"{folder.name}-{rank}.safetensors", folder, rank=rank, scale=0.1)
    engine = Engine.load(folder, plugins=[LoRAPlugin])
    pipes = {}
    for name in ("none", "peft"):
        pipes[name] = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        pipes[name].set_progress_bar_config(disable=True)
    pipes["peft"].load_lora_weights(str(file), adapter_name="one")
    pipes["peft"].set_adapters(["one"], [WEIGHT])
    common: dict[str, Any] = {"height": size, "width": size, "guidance_scale": 7.5}
    constant = LoRA(path=str(file), weight=WEIGHT)
    half = LoRA(path=str(file), weight=WEIGHT, end=0.5)
    falling = LoRA(path=str(file), weight=((0.0, 1.0), (1.0, 0.6)))

    def ours(steps: int, use: Any = ()) -> Any:
        return engine.generate(PROMPT, steps=steps, seed=1, use=use, output="latent", **common).latents

    def theirs(pipe: Any, steps: int) -> Any:
        generator = [torch.Generator().manual_seed(1)]
        return pipe(PROMPT, num_inference_steps=steps, generator=generator, output_type="latent", **common).images

    variants: dict[str, Callable[[int], object]] = {
        "sdcore": ours,
        "sdcore, constant": lambda steps: ours(steps, [constant]),
        "sdcore, scheduled": lambda steps: ours(steps, [falling]),
        "sdcore, first half": lambda steps: ours(steps, [half]),
        "diffusers": lambda steps: theirs(pipes["none"], steps),
        "diffusers, peft active": lambda steps: theirs(pipes["peft"], steps),
    }
    apart = float((theirs(pipes["peft"], LONG) - ours(LONG, [constant])).abs().max())
    spent: dict[str, list[float]] = {name: [] for name in variants}
    whole: dict[str, list[float]] = {name: [] for name in variants}
    shuffled = random.Random(0)
    for round_ in range(rounds + 1):
        for name in shuffled.sample(list(variants), len(variants)):  # a run's speed depends on what ran before it
            long, short = (process_seconds(lambda n=name, s=steps: variants[n](s)) for steps in (LONG, SHORT))
            if round_:  # the first round warms up
                spent[name].append((long - short) / (LONG - SHORT))
                whole[name].append(long)

    def ratio(one: str, other: str, of: dict[str, list[float]]) -> float:
        return statistics.median(a / b for a, b in zip(of[one], of[other], strict=True))

    return {
        "rounds": rounds,
        "rank": rank,
        "largest_difference_of_latents_to_peft": apart,
        "step": {
            "constant_to_none": ratio("sdcore, constant", "sdcore", spent),
            "constant_to_peft_active": ratio("sdcore, constant", "diffusers, peft active", spent),
            "first_half_to_none": ratio("sdcore, first half", "sdcore", spent),
            "scheduled_to_none": ratio("sdcore, scheduled", "sdcore", spent),
            "scheduled_to_peft_active": ratio("sdcore, scheduled", "diffusers, peft active", spent),
            "peft_active_to_diffusers": ratio("diffusers, peft active", "diffusers", spent),
        },
        f"run of {LONG} steps": {
            "constant_to_none": ratio("sdcore, constant", "sdcore", whole),
            "constant_to_peft_active": ratio("sdcore, constant", "diffusers, peft active", whole),
        },
        "spread_of_steps": {
            n: [min(t) / statistics.median(t), max(t) / statistics.median(t)] for n, t in spent.items()
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds, to see that it runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "lora.json")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
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
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = small_sd15(Path(scratch) / "small")
        results["small SD1.5 shape, 128x128"] = measure(folder, 128, 16, rounds)
        results["small SD1.5 shape, 256x256"] = measure(folder, 256, 16, max(2, rounds // 4))
    print(report(results))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


def report(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| cost of a step | " + " | ".join(name for name, found in results.items() if "step" in dict_of(found)) + " |"
    ]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    measured = [found for found in results.values() if "step" in dict_of(found)]
    lines += [
        f"| {name.replace('_', ' ')} | " + " | ".join(f"{found['step'][name]:.3f}" for found in measured) + " |"
        for name in measured[0]["step"]
    ]
    return "\n".join(lines)


def dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


if __name__ == "__main__":
    main()
