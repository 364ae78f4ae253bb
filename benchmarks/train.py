"""What a step of training costs: ratios, never times.

Ours against the loop of diffusers' example scripts (train_text_to_image.py and its LoRA form), written out here: the
same model (the embedded one), pictures, batch, precision and clipping. Full training and LoRA, and cached latents
against latents that are encoded in every step.

Sides are interleaved in rounds within one process, on one thread, measured as process time; the figure is the median
over rounds of the ratio within a round. Writes benchmarks/results/train.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from overhead import HERE, process_seconds

BATCH, COUNT, RANK = 4, 32, 16
BARS = {"full / diffusers": 0.95, "LoRA / diffusers": 0.95, "full, cached / uncached": 0.9}


def pictures(folder: Path, size: int) -> Path:
    """A folder of drawn pictures with captions."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = []
    for number in range(COUNT):
        small = Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"an icon of a red apple {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def ours(folder: Path, name: str, use: Any, cached: bool) -> Callable[[], object]:
    """One update of our loop at each call."""
    from sdcore_train import TrainConfig
    from sdcore_train.loop import Loop
    from sdcore_train.prepare import fill_caches, load_job, prepare
    from sdcore_train.resolve import known_plugins, resolve

    config, plugins = resolve(
        TrainConfig(
            output=str(folder / name),
            data=[{"path": str(folder / "data")}],
            use=[use],
            steps=10_000,
            batch_size=BATCH,
            device="cpu",
            pictures={"buckets": False, "cache": "memory" if cached else "off"},
            captions={"dropout": 0.0, "cache": cached},
        ),
        known_plugins(),
    )
    job = load_job(config, plugins, lambda _: None, progress=False)
    ready = prepare(job)
    if cached:
        fill_caches(job)
    updates = Loop(ready).run(0)
    return lambda: next(updates)


def theirs(folder: Path, lora: bool) -> Callable[[], object]:
    """One update of the loop of diffusers' example scripts at each call."""
    import numpy as np
    import torch
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from PIL import Image

    from sdcore.models import load_model

    model: Any = load_model(None, device="cpu", dtype="float32")
    accelerator = Accelerator(cpu=True)
    unet, vae, encoder, tokenizer = model.unet, model.vae, model.text_encoders[0], model.tokenizers[0]
    if lora:
        from peft import LoraConfig

        targets = ["to_k", "to_q", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
        parameters = [p for p in unet.parameters() if p.requires_grad]
    else:
        unet.requires_grad_(True)
        parameters = list(unet.parameters())
    unet.train()
    scheduler = DDPMScheduler.from_config(model.scheduler_config)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    rows = [json.loads(line) for line in (folder / "data" / "metadata.jsonl").read_text().splitlines()]

    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            image = Image.open(folder / "data" / rows[index]["file_name"]).convert("RGB")
            ids = tokenizer(
                rows[index]["text"],
                max_length=tokenizer.model_max_length,
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            ).input_ids[0]
            # What the scripts' transforms do (ToTensor, Normalize), without torchvision.
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255).sub(0.5).div(0.5)
            return {"pixel_values": pixels, "input_ids": ids}

    loader = torch.utils.data.DataLoader(Pictures(), shuffle=True, batch_size=BATCH)  # type: ignore[var-annotated]
    rate = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, rate = accelerator.prepare(unet, optimizer, loader, rate)

    def steps() -> Iterator[float]:
        while True:
            for batch in loader:
                with accelerator.accumulate(unet):
                    latents = vae.encode(batch["pixel_values"]).latent_dist.sample() * vae.config.scaling_factor
                    noise = torch.randn_like(latents)
                    timesteps = torch.randint(0, 1000, (len(latents),)).long()
                    noisy = scheduler.add_noise(latents, noise, timesteps)
                    states = encoder(batch["input_ids"], return_dict=False)[0]
                    target = scheduler.get_velocity(latents, noise, timesteps)
                    prediction = unet(noisy, timesteps, states, return_dict=False)[0]
                    loss = torch.nn.functional.mse_loss(prediction.float(), target.float(), reduction="mean")
                    average = accelerator.gather(loss.repeat(BATCH)).mean()
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(parameters, 1.0)
                    optimizer.step()
                    rate.step()
                    optimizer.zero_grad()
                yield average.item()

    made = steps()
    return lambda: next(made)


def measure(rounds: int) -> dict[str, Any]:
    """Ratios of process times of a step."""
    import torch

    torch.set_num_threads(1)
    lora = {"plugin": "lora", "options": {"rank": RANK}}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        pictures(folder / "data", 64)
        sides = {
            "ours full": ours(folder, "a", "full", True),
            "ours full uncached": ours(folder, "b", "full", False),
            "theirs full": theirs(folder, False),
            "ours lora": ours(folder, "c", lora, True),
            "theirs lora": theirs(folder, True),
        }
        spent: dict[str, list[float]] = {name: [] for name in sides}
        shuffled = random.Random(0)
        for round_ in range(rounds + 2):
            for name in shuffled.sample(sorted(sides), len(sides)):
                seconds = process_seconds(sides[name])
                if round_ >= 2:  # the first rounds warm up
                    spent[name].append(seconds)
    pairs = {
        "full / diffusers": ("ours full", "theirs full"),
        "LoRA / diffusers": ("ours lora", "theirs lora"),
        "full, cached / uncached": ("ours full", "ours full uncached"),
        "full, uncached / diffusers": ("ours full uncached", "theirs full"),
    }
    found: dict[str, Any] = {}
    for what, (mine, base) in pairs.items():
        ratios = [a / b for a, b in zip(spent[mine], spent[base], strict=True)]
        found[what] = {"ratio": statistics.median(ratios), "quartiles": statistics.quantiles(ratios, n=4)}
        if what in BARS:
            found[what] |= {"bar": BARS[what], "within_the_bar": found[what]["ratio"] <= BARS[what]}
    return found


def peaks(rounds: int = 3) -> dict[str, float]:
    """Peak memory in MB of a process that trains a few steps, for each side."""
    import subprocess
    import sys

    found = {}
    for name in ("none", "ours-full", "theirs-full", "ours-lora", "theirs-lora"):
        command = [sys.executable, __file__, "--peak", name, "--rounds", str(rounds)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE).stdout
        found[name] = float(output.strip().splitlines()[-1])
    return found


def peak(name: str, rounds: int) -> float:
    """Peak memory of this process in MB, after some steps of one side."""
    from sdcore_train.monitor.memory import peak_memory

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        pictures(folder / "data", 64)
        whose, _, what = name.partition("-")
        use: Any = {"plugin": "lora", "options": {"rank": RANK}} if what == "lora" else "full"
        import torch

        if whose != "none":
            step = ours(folder, "a", use, True) if whose == "ours" else theirs(folder, what == "lora")
            for _ in range(rounds):
                step()
        return peak_memory(torch.device("cpu")) / 1e6


def main() -> None:
    """Measure, print a table, write benchmarks/results/train.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.peak:
        print(peak(arguments.peak, arguments.rounds))
        return
    import torch

    found = measure(arguments.rounds)
    memory = peaks()
    print("| what | ratio | quartiles | bar |\n|---|---|---|---|")
    for what, row in found.items():
        low, _, high = row["quartiles"]
        print(f"| {what} | {row['ratio']:.3f} | {low:.3f} to {high:.3f} | {row.get('bar', '')} |")
    for what, size in memory.items():
        print(f"peak memory, {what}: {size:,.0f} MB")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    facts = {"versions": versions, "threads": 1, "batch": BATCH, "rounds": arguments.rounds}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**facts, "ratios": found, "peak_memory_mb": memory}, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()
