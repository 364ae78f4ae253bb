"""sdcore against the diffusers pipeline doing the same work on a GPU: seconds, ratios and peak memory.

Models have the shapes of the published ones and random weights, made on the device: nothing is downloaded. Both sides
work on the same weights in memory, from the same start noise. Sides are interleaved in rounds within one process, the
device is waited for before and after each run, and a figure is the median over rounds.

    python benchmarks/gpu.py --out gpu.json --budget 75

After so many seconds no further case is begun. The file is written after every case; a case that fails is in it with
its error. ``--quick`` carries out all cases on the CPU with tiny shapes, to see that they run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gpu_models import BEGAN, Bench, making, model_of, sd15, sdxl

HERE = Path(__file__).resolve().parent
for _folder in (HERE.parent, *sorted(HERE.parent.glob("plugins/*/src"))):  # behind what is installed
    sys.path.append(str(_folder))

PROMPT = "a red apple on a wooden table, photo, soft light"
RANK, WEIGHT, SCALE = 16, 0.8, 0.8
Taken = tuple[Any, list[Any]]
Work = Callable[[bool], Taken]
"""A side's work: latents and pictures. Latents of diffusers only if asked for: a callback costs it time."""


# -- pictures -------------------------------------------------------------------------------------------------


def ours(engine: Any, size: int, steps: int, count: int, use: Any = ()) -> Work:
    def work(_latents: bool) -> Taken:
        result = engine.generate(
            PROMPT, height=size, width=size, steps=steps, guidance_scale=7.5, seeds=list(range(1, count + 1)),
            batch_size=count, use=list(use),
        )  # fmt: skip
        return result.latents, list(result.images)

    return work


def theirs(pipe: Any, size: int, steps: int, count: int, **more: Any) -> Work:
    def work(latents: bool) -> Taken:
        import torch

        last: dict[str, Any] = {}

        def keep(_pipe: Any, _index: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
            last["latents"] = given["latents"]
            return given

        pictures = pipe(
            PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=7.5, output_type="pil",
            num_images_per_prompt=count, generator=[torch.Generator("cpu").manual_seed(n + 1) for n in range(count)],
            **({"callback_on_step_end": keep} if latents else {}), **more,
        ).images  # fmt: skip
        return last.get("latents"), list(pictures)

    return work


def compare(bench: Bench, makers: dict[str, Callable[[], Work]], found: dict[str, Any]) -> None:
    """Seconds, ratios, peaks and differences of sides; the last is what the others are compared with.

    A side that cannot be made or run is left out, with its error.
    """
    sides: dict[str, Work] = {}
    first: dict[str, Taken] = {}
    warm: dict[str, float] = {}
    *_, base = makers
    for name, maker in makers.items():
        with noted(found, name):
            work = maker()

            def warming(work: Work = work, name: str = name) -> None:
                first[name] = work(True)

            warm[name] = bench.timed(warming)
            sides[name] = work
    spent: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, list[int]] = {name: [] for name in sides}
    above: dict[str, list[int]] = {name: [] for name in sides}
    for round_ in range(bench.rounds):
        if round_ and bench.over:
            break
        for name in sorted(sides, reverse=bool(round_ % 2)):
            before = bench.allocated()
            spent[name].append(bench.timed(lambda work=sides[name]: work(False)))  # type: ignore[misc]
            peaks[name].append(bench.peak())
            above[name].append(bench.peak() - before)
    found["seconds"] = {name: statistics.median(times) for name, times in spent.items() if times}
    found["seconds_of_rounds"] = spent
    found["seconds_of_first_run"] = warm
    found["peak_mb"] = {name: max(sizes) / 1e6 for name, sizes in peaks.items() if sizes}
    found["peak_above_what_was_there_mb"] = {name: max(sizes) / 1e6 for name, sizes in above.items() if sizes}
    if base in sides:
        found["ratio"] = {
            name: statistics.median(a / b for a, b in zip(spent[name], spent[base], strict=True))
            for name in sides
            if name != base
        }
        found["difference"] = {name: apart(first[name], first[base]) for name in sides if name != base}


def apart(one: Taken, other: Taken) -> dict[str, float]:
    """Largest differences: of pictures in levels of 255, and of latents as they are and as a part of the largest."""
    import numpy as np

    pairs = zip(one[1], other[1], strict=True)
    levels = [np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16)) for a, b in pairs]
    told = {"picture": float(max(d.max() for d in levels)), "picture_mean": float(np.mean([d.mean() for d in levels]))}
    if one[0] is not None and other[0] is not None:
        a, b = one[0].detach().float().cpu(), other[0].detach().float().cpu()
        told |= {"latent": float((a - b).abs().max()), "largest_latent": float(b.abs().max())}
    return told


@contextlib.contextmanager
def noted(found: dict[str, Any], what: str) -> Iterator[None]:
    """Keep the error of a part in the results, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - told in the results
        found.setdefault("errors", {})[what] = lines = last_lines(error)
        print(f"  {what} failed: {lines}", flush=True)


def last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).strip()[-1500:]


def case_sd15(bench: Bench, count: int, found: dict[str, Any]) -> None:
    from sdcore import Engine

    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)
    work = ours(Engine(model_of(pipe), plugins=[]), size, steps, count)
    found |= {"size": size, "steps": steps, "batch": count, "force_upcast": bool(pipe.vae.config.force_upcast)}
    compare(
        bench,
        {
            "sdcore": lambda: work,
            "diffusers": lambda: theirs(pipe, size, steps, count),
        },
        found,
    )


def case_sdxl(bench: Bench, found: dict[str, Any]) -> None:
    from sdcore import Engine

    size, steps = (64, 2) if bench.quick else (1024, 10)
    pipe = sdxl(bench)
    found |= {"size": size, "steps": steps, "batch": 1, "force_upcast": bool(pipe.vae.config.force_upcast)}
    compare(
        bench,
        {
            "sdcore": lambda: ours(Engine(model_of(pipe), plugins=[]), size, steps, 1),
            "diffusers": lambda: theirs(pipe, size, steps, 1),
        },
        found,
    )


def case_lora(bench: Bench, found: dict[str, Any]) -> None:
    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)

    def mine() -> Work:
        from sdcore_lora import LoRA, LoRAPlugin

        from sdcore import Engine

        engine = Engine(model_of(pipe), plugins=[LoRAPlugin])
        return ours(engine, size, steps, 1, [LoRA(path=str(file()), weight=WEIGHT)])

    def base() -> Work:
        from diffusers import StableDiffusionPipeline

        parts = pipe.components | {"unet": copy.deepcopy(pipe.unet)}
        other = StableDiffusionPipeline(**parts, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        other.load_lora_weights(str(file().parent), weight_name=file().name, adapter_name="one")
        other.set_adapters(["one"], [WEIGHT])
        return theirs(other, size, steps, 1)

    def file() -> Path:
        from sdcore.testing.tiny_lora import tiny_lora

        path = bench.scratch / "lora.safetensors"
        if not path.exists():
            holder = SimpleNamespace(components={"unet": pipe.unet})
            kind = "float16" if bench.cuda else "float32"
            tiny_lora(path, holder, rank=RANK, scale=0.1, targets=("attention",), dtype=kind)
        return path

    found |= {"size": size, "steps": steps, "batch": 1, "rank": RANK}
    compare(bench, {"sdcore": mine, "diffusers": base}, found)


def case_controlnet(bench: Bench, found: dict[str, Any]) -> None:
    import torch
    from diffusers import ControlNetModel
    from PIL import Image

    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)
    with making(bench):
        net: Any = ControlNetModel.from_unet(pipe.unet)
        with torch.no_grad():
            for convolution in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
                torch.nn.init.normal_(convolution.weight, std=0.02)
            torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.02)
    net = net.to(device=bench.device, dtype=bench.dtype).eval().requires_grad_(False)
    image = Image.effect_noise((size, size), 80).convert("RGB")

    def mine() -> Work:
        from sdcore_controlnet import ControlNet, ControlNetPlugin

        from sdcore import Engine

        folder = bench.scratch / "net"
        net.save_pretrained(folder)
        engine = Engine(model_of(pipe), plugins=[ControlNetPlugin])
        use = [ControlNet(model=str(folder), image=image, scale=SCALE)]
        return ours(engine, size, steps, 1, use)

    def base() -> Work:
        from diffusers import StableDiffusionControlNetPipeline

        other = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        return theirs(other, size, steps, 1, image=image, controlnet_conditioning_scale=SCALE)

    found |= {"size": size, "steps": steps, "batch": 1}
    compare(bench, {"sdcore": mine, "diffusers": base}, found)


# -- all ------------------------------------------------------------------------------------------------------


def cases(bench: Bench) -> dict[str, Callable[[dict[str, Any]], None]]:
    """The cases by their names, the most telling first."""
    return {
        "SD1.5 shape, 1 picture": lambda found: case_sd15(bench, 1, found),
        "SD1.5 shape, 4 pictures": lambda found: case_sd15(bench, 4, found),
        "SDXL shape, 1 picture": lambda found: case_sdxl(bench, found),
        "SD1.5 shape, LoRA": lambda found: case_lora(bench, found),
        "SD1.5 shape, ControlNet": lambda found: case_controlnet(bench, found),
    }


def facts(bench: Bench) -> dict[str, Any]:
    import importlib.metadata

    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    for name in ("diffusers", "transformers", "accelerate", "peft"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    told: dict[str, Any] = {"device": bench.device, "versions": versions, "threads": torch.get_num_threads()}
    if bench.cuda:
        about = torch.cuda.get_device_properties(0)
        told |= {"device": about.name, "device_memory_mb": about.total_memory / 1e6}
    return told | {"quick": bench.quick, "dtype": str(bench.dtype).removeprefix("torch."), "cases": {}}


def write(path: Path, results: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    head = ("case", "side", "seconds", "ratio to diffusers", "peak MB", "pictures differ by")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for case, found in results["cases"].items():
        if "skipped" in found or "error" in found:
            lines.append(f"| {case} | {found.get('skipped', 'failed')} | | | | |")
            continue
        peaks = found.get("peak_mb", {})
        for side in dict.fromkeys([*found.get("seconds", {}), *found.get("ratio", {})]):
            seconds, ratio = found["seconds"].get(side), found.get("ratio", {}).get(side)
            differ = found.get("difference", {}).get(side, {}).get("picture")
            cells = [
                "" if seconds is None else f"{seconds:.3f}",
                "" if ratio is None else f"{ratio:.3f}",
                "" if side not in peaks else f"{peaks[side]:,.0f}",
                "" if differ is None else f"{differ:.0f} of 255",
            ]
            lines.append(f"| {case} | {side} | {' | '.join(cells)} |")
        lines += [f"| {case} | {side}: failed | | | | |" for side in found.get("errors", {})]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, write a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which no further case is begun")
    parser.add_argument("--rounds", type=int, default=3, help="of pictures, after one that warms up")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="tiny shapes on the CPU, to see that it runs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, ignore_cleanup_errors=True) as scratch:
        device = "cpu" if arguments.quick else arguments.device
        bench = Bench(device, arguments.quick, arguments.rounds, arguments.budget, Path(scratch))
        if bench.cuda and not torch.cuda.is_available():
            raise SystemExit("torch finds no CUDA device here; --quick runs all of it on the CPU with tiny shapes")
        results = facts(bench)
        results["seconds_until_first_case"] = time.perf_counter() - BEGAN
        write(arguments.out, results)
        for name, case in cases(bench).items():
            if arguments.only not in name:
                continue
            found: dict[str, Any] = {}
            results["cases"][name] = found
            if bench.over:
                found["skipped"] = "the budget is spent"
                continue
            print(f"{name} ({time.perf_counter() - BEGAN:.1f} s)", flush=True)
            begin = time.perf_counter()
            try:
                case(found)
            except Exception as error:  # noqa: BLE001 - told in the results; the next case goes on
                found["error"] = last_lines(error)
                print(f"  failed: {found['error']}", flush=True)
            found["seconds_of_case"] = time.perf_counter() - begin
            write(arguments.out, results)
            with contextlib.suppress(Exception):
                bench.free()
        results["seconds"] = time.perf_counter() - BEGAN
        write(arguments.out, results)
    print(table(results))
    print(f"\n{results['device']}, {results['seconds']:.0f} s; written to {arguments.out}")


if __name__ == "__main__":
    main()
