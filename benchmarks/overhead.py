"""sdcore against the diffusers pipeline doing the same work: ratios, never times.

Variants are interleaved in rounds within one process, on one thread, measured as process time; the figure is
the median over rounds of the ratio within a round. Run it with `make bench`; it writes
benchmarks/results/overhead.json and prints the tables of docs/explanation/speed.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

HERE = Path(__file__).parent
PROMPT = "a red apple, 3d style, white background"
HOOKS = ("text", "latents", "step", "unet", "decode", "output")


def noop_plugins() -> list[Any]:
    """Six plugins that do nothing, one on each of six hooks."""
    from sdcore import Plugin, hookimpl, ports

    def unchanged(*_: Any) -> None:
        return None

    class Base(Plugin):
        pass

    stages: dict[str, Callable[[Any], Any]] = {
        "text": lambda run: ports.prompt(unchanged),
        "latents": lambda run: ports.initial_latents(unchanged),
        "step": lambda run: [ports.latents_in(unchanged), ports.unet_input(unchanged), ports.latents_out(unchanged)],
        "unet": lambda run: ports.block_output(unchanged, sites=run.find_sites("block")),
        "decode": lambda run: ports.image(unchanged),
        "output": lambda run: ports.metadata(lambda picture: {}),
    }
    made = []
    for hook in HOOKS:

        def method(self: Any, run: Any, hook: str = hook) -> Any:
            return stages[hook](run)

        namespace = {"name": f"noop-{hook}", hook: hookimpl(_one_argument(method))}
        made.append(type(f"Noop{hook.title()}", (Plugin,), namespace))
    return made


def _one_argument(method: Any) -> Any:
    def hook(self: Any, run: Any) -> Any:
        return method(self, run)

    return hook


def small_sd15(folder: Path, channels: int = 4) -> Path:
    """A model of SD1.5's shape with (128, 256) channels and 16x16 latents, 4 or 9 channels in; random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

    from sdcore.testing.tiny import tiny_folder

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(Path(tiny_folder("sd1")) / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=channels, block_out_channels=(128, 256), layers_per_block=2,
        cross_attention_dim=256,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, sample_size=128,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                       num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
                       bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                       pad_token_id=tokenizer.pad_token_id)
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def process_seconds(work: Callable[[], object]) -> float:
    """Process time of one call, garbage collected before, not during."""
    gc.collect()
    gc.disable()
    begin = time.process_time()
    work()
    spent = time.process_time() - begin
    gc.enable()
    return spent


def compare(folder: Path, size: int, steps: int, guidance: float, rounds: int) -> dict[str, Any]:
    """Ratios to the diffusers pipeline on one model: no plugin, and six that do nothing."""
    import torch
    from diffusers import StableDiffusionPipeline

    from sdcore import Engine

    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    names = noop_plugins()
    # One engine for both: two copies of the weights differ by several per cent, by where they lie in memory.
    engine = Engine.load(folder, plugins=names)
    use = [plugin.name for plugin in names]
    common: dict[str, Any] = {"height": size, "width": size, "steps": steps, "guidance_scale": guidance, "seed": 1}

    def theirs(output: str = "pil") -> Any:
        return pipe(
            PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=guidance, output_type=output,
            generator=[torch.Generator().manual_seed(1)],
        ).images  # fmt: skip

    identical = bool(torch.equal(theirs("latent"), engine.generate(PROMPT, **common, output="latent").latents))
    variants: dict[str, Callable[[], object]] = {
        "diffusers": theirs,
        "sdcore": lambda: engine.generate(PROMPT, **common),
        "sdcore, six no-op plugins": lambda: engine.generate(PROMPT, **common, use=use),
    }
    spent: dict[str, list[float]] = {name: [] for name in variants}
    shuffled = random.Random(0)
    for round_ in range(rounds + 1):
        order = shuffled.sample(list(variants), len(variants))  # a run's speed depends on what ran before it
        for name in order:
            seconds = process_seconds(variants[name])
            if round_:  # the first round warms up
                spent[name].append(seconds)
    ratios = {
        name: statistics.median(mine / base for mine, base in zip(times, spent["diffusers"], strict=True))
        for name, times in spent.items()
    }
    plugged = statistics.median(b / a for a, b in zip(spent["sdcore"], spent["sdcore, six no-op plugins"], strict=True))
    return {
        "identical_latents": identical,
        "rounds": rounds,
        "steps": steps,
        "ratio_to_diffusers": ratios,
        "six_noop_to_none": plugged,
        "spread": {name: [min(t) / statistics.median(t), max(t) / statistics.median(t)] for name, t in spent.items()},
    }


def microseconds_a_step(rounds: int, steps: int = 500) -> float:
    """What the six plugins add to a step, measured where the U-Net costs nothing.

    The difference would drown in the noise of a real U-Net. Here every block of it is a function that returns its
    input, so that the stages at the sites are called as in a real run.
    """
    import torch

    from sdcore import Engine
    from sdcore.testing.tiny import tiny_folder

    torch.set_num_threads(1)
    names = noop_plugins()
    engine = Engine.load(tiny_folder("sd1"), plugins=names)
    unet = engine.model.unet
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    for block in unet.down_blocks:
        block.forward = lambda hidden_states, **_: (hidden_states, ())
    for block in (unet.mid_block, *unet.up_blocks):
        block.forward = lambda hidden_states, **_: hidden_states

    def forward(sample: Any, *_: Any, **__: Any) -> Any:
        for block in blocks:
            found = block(hidden_states=sample)
            sample = found[0] if isinstance(found, tuple) else found
        return (sample * 0,)

    unet.forward = forward
    common: dict[str, Any] = {"height": 16, "width": 16, "steps": steps, "scheduler": "ddim", "output": "latent"}
    found = []
    for _ in range(rounds + 1):
        none = process_seconds(lambda: engine.generate("a", seed=1, **common))
        six = process_seconds(lambda: engine.generate("a", seed=1, **common, use=[plugin.name for plugin in names]))
        found.append((six - none) / steps)
    return statistics.median(found[1:]) * 1e6


SDCORE_SCRIPT = """
from sdcore import Engine
Engine.load({folder!r}, plugins=[]).generate({prompt!r}, seed=1, steps=25, guidance_scale=4.0).image.save({out!r})
"""
DIFFUSERS_SCRIPT = """
import torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained({folder!r}, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
generator = torch.Generator().manual_seed(1)
pipe({prompt!r}, num_inference_steps=25, guidance_scale=4.0, generator=generator).images[0].save({out!r})
"""


def from_start(folder: Path, rounds: int) -> dict[str, Any]:
    """Whole processes: from start to the first picture on disk; process time and peak memory."""
    found: dict[str, list[tuple[float, float]]] = {"sdcore": [], "diffusers": []}
    with tempfile.TemporaryDirectory() as scratch:
        scripts = [("sdcore", SDCORE_SCRIPT), ("diffusers", DIFFUSERS_SCRIPT)]
        for _ in range(rounds):
            scripts.reverse()
            for name, script in scripts:
                code = script.format(folder=str(folder), prompt=PROMPT, out=f"{scratch}/{name}.png")
                found[name].append(_spawn(code))
    pairs = list(zip(found["sdcore"], found["diffusers"], strict=True))
    ratios = [ours[0] / theirs[0] for ours, theirs in pairs]
    return {
        "start_to_picture_ratio": statistics.median(ratios),
        "start_to_picture_spread": [min(ratios), max(ratios)],
        "peak_memory_ratio": statistics.median(ours[1] / theirs[1] for ours, theirs in pairs),
        "rounds": rounds,
    }


_MEASURE = """
import resource
usage = resource.getrusage(resource.RUSAGE_SELF)
print("MEASURED", usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def _spawn(code: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", code + _MEASURE], capture_output=True, text=True, check=True)
    _, seconds, peak = next(line for line in done.stdout.splitlines() if line.startswith("MEASURED")).split()
    return float(seconds), float(peak)


def import_seconds(rounds: int) -> float:
    """Process time of `import sdcore`, which must not import torch."""
    code = (
        "import time; b = time.process_time(); import sdcore, sys; s = time.process_time() - b; "
        "assert 'torch' not in sys.modules; print(s)"
    )
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "overhead.json")
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
        "import_sdcore_seconds": import_seconds(rounds),
    }
    with tempfile.TemporaryDirectory() as folder:
        results["embedded model, 25 steps"] = compare(mini, 64, 25, 4.0, rounds)
        results["small SD1.5 shape, 8 steps"] = compare(small_sd15(Path(folder) / "small"), 128, 8, 7.5, rounds)
        results["six_noop_microseconds_a_step"] = round(microseconds_a_step(rounds), 1)
        results["process, embedded model"] = from_start(mini, max(3, rounds // 2))
    print(report(results))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


def report(results: dict[str, Any]) -> str:
    """The results as Markdown tables."""
    lines = ["| model | sdcore / diffusers | six no-op plugins / none | latents |", "|---|---|---|---|"]
    for name, found in results.items():
        if isinstance(found, dict) and "ratio_to_diffusers" in found:
            lines.append(
                f"| {name} | {found['ratio_to_diffusers']['sdcore']:.3f} | {found['six_noop_to_none']:.3f} "
                f"| {'identical' if found['identical_latents'] else 'differ'} |"
            )
    process = results["process, embedded model"]
    lines += [
        "",
        "| whole process, embedded model | sdcore / diffusers |",
        "|---|---|",
        f"| process time from start to first picture | {process['start_to_picture_ratio']:.3f} |",
        f"| peak memory | {process['peak_memory_ratio']:.3f} |",
        "",
        f"Six no-op plugins: {results['six_noop_microseconds_a_step']:.0f} microseconds a step.",
        f"`import sdcore`: {results['import_sdcore_seconds'] * 1000:.0f} ms of process time, without torch.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
