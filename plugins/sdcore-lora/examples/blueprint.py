"""The picture of the README, from nothing but the embedded model: a LoRA made by the means of this package.

1. The model draws 40 icons, and each is recoloured as a blueprint: pale lines on blue.
2. A copy of the model's U-Net is trained on them for some hundred steps (a minute or two on one core).
3. `extract` makes a LoRA of rank 16 of the difference to the model.
4. The same seeds are drawn with the LoRA at several weights, of things that were not among the 40.

    python blueprint.py OUT_FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageOps
from sdcore_lora import LoRA, extract, save_lora

from sdcore import Engine
from sdcore.models import installed_models

THINGS = (
    *(
        "red apple",
        "pizza",
        "dog face",
        "house",
        "umbrella",
        "rocket",
        "guitar",
        "hammer",
        "tree",
        "fish",
        "bus",
        "bell",
    ),
    *("key", "star", "banana", "cake", "horse face", "camera", "book", "clock"),
)
SHOWN = ("cat face", "strawberry", "hamburger", "soccer ball")
COLUMNS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "0.5": {"weight": 0.5},
    "1.0": {"weight": 1.0},
    "1.4": {"weight": 1.4},
    "first half": {"weight": 1.0, "end": 0.5},
    "last half": {"weight": 1.0, "start": 0.5},
}


def blueprint(image: Image.Image) -> Image.Image:
    """White to blue, dark to pale."""
    return ImageOps.colorize(ImageOps.autocontrast(image.convert("L")), black="#eaf6ff", white="#12439b")


def pictures(engine: Engine) -> list[tuple[str, Image.Image]]:
    """Icons that the model draws, recoloured, with their prompts."""
    found = []
    for style in ("3d", "flat"):
        for thing in THINGS:
            prompt = f"an icon of a {thing}, {style} style, white background"
            found.append((prompt, blueprint(engine.generate(prompt, seed=len(found), steps=15).image)))
    return found


def train(engine: Engine, data: list[tuple[str, Image.Image]], folder: Path, steps: int) -> None:
    """Train the attention and feed-forward weights of the U-Net, and write it to a copy of the model's folder."""
    model: Any = engine.model
    generator = torch.Generator().manual_seed(0)
    tokenizer, encoder = model.tokenizers[0], model.text_encoders[0]
    pixels = torch.stack([torch.tensor(list(i.getdata())).reshape(64, 64, 3) for _, i in data]).permute(0, 3, 1, 2)
    with torch.no_grad():
        latents = model.vae.encode(pixels / 127.5 - 1).latent_dist.mean * model.vae.config.scaling_factor
        ids = tokenizer(
            [prompt for prompt, _ in data], padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        context = encoder(ids)[0]
        empty = encoder(tokenizer([""], padding="max_length", return_tensors="pt").input_ids)[0]
    scheduler = scheduler_of(model)
    rates = scheduler.alphas_cumprod
    unet = model.unet
    kept = {name: value.clone() for name, value in unet.state_dict().items()}
    trained = [
        p
        for name, p in unet.named_parameters()
        if p.dim() > 1 and ("attn" in name or ".ff." in name or "proj_" in name)
    ]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.0)
    for step in range(steps):
        chosen = torch.randint(len(data), (8,), generator=generator)
        noise = torch.randn(8, *latents.shape[1:], generator=generator)
        times = torch.randint(1000, (8,), generator=generator)
        alpha, sigma = (rate.sqrt()[times][:, None, None, None] for rate in (rates, 1 - rates))
        noisy, target = alpha * latents[chosen] + sigma * noise, alpha * noise - sigma * latents[chosen]
        drop = (torch.rand(8, generator=generator) < 0.1)[:, None, None]
        guess = unet(noisy, times, torch.where(drop, empty, context[chosen]), return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(guess, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    unet.requires_grad_(False)
    unet.save_pretrained(folder / "unet")
    unet.load_state_dict(kept)


def scheduler_of(model: Any) -> Any:
    """The noise levels of the model."""
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(model.scheduler_config)


def sheet(engine: Engine, file: Path) -> Image.Image:
    """One row for each thing, one column for each use of the LoRA."""
    size, left, top = 112, 8, 26
    out = Image.new("RGB", (left + size * len(COLUMNS), top + size * len(SHOWN)), "white")
    draw = ImageDraw.Draw(out)
    for column, (title, options) in enumerate(COLUMNS.items()):
        draw.text((left + size * column + 6, 8), title, fill="black")
        use = [] if options is None else [LoRA(path=str(file), **options)]
        for row, thing in enumerate(SHOWN):
            prompt = f"an icon of a {thing}, 3d style, white background"
            image = engine.generate(prompt, seed=3, use=use).image
            out.paste(
                image.resize((size - 4, size - 4), Image.Resampling.BICUBIC), (left + size * column, top + size * row)
            )
    return out


def main(out: Path, steps: int = 160) -> None:
    """Make the LoRA and the picture."""
    out.mkdir(parents=True, exist_ok=True)
    mini = next(Path(model.path) for model in installed_models() if model.name == "mini" and model.path)
    engine = Engine.load(mini)
    tuned = out / "tuned"
    if not tuned.is_dir():
        shutil.copytree(mini, tuned, ignore=shutil.ignore_patterns("diffusion_pytorch_model.safetensors"))
        shutil.copy(mini / "vae" / "diffusion_pytorch_model.safetensors", tuned / "vae")
        train(engine, pictures(engine), tuned, steps)
    found = extract(mini, tuned, rank=16, least=1e-3)
    file = save_lora(found.lora, out / "blueprint.safetensors", dtype="float16", overwrite=True)
    told = {"layers": len(found.errors), "remains": round(found.error, 3), "bytes": file.stat().st_size}
    print(json.dumps(told))
    sheet(engine, file).quantize(192).save(out / "blueprint.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "blueprint"))
