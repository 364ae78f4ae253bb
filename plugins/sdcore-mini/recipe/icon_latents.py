"""The latents of every icon, on white and on black: what the text encoder is taught to remember.

    python icon_latents.py --data FOLDER --model MODEL_FOLDER --out FILE.safetensors

On two backgrounds, what the icon covers can be told from what it does not, so that one answer serves all backgrounds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from mini_recipe import dataset, icons, sources
from mini_recipe.labels import Labels
from mini_recipe.pictures import colours, compose
from mini_recipe.processes import parallel
from numpy.typing import NDArray
from safetensors.torch import save_file
from tqdm import tqdm

BACKGROUNDS = ("white", "black")
AT_ONCE = 32


def draw(job: tuple[Path, str, int]) -> NDArray[np.uint8]:
    """An icon of a style on each background, (backgrounds, size, size, 3)."""
    path, style, size = job
    icon = icons.load(path)
    return np.stack([np.asarray(compose(icon, style, colours()[colour], size)) for colour in BACKGROUNDS])


@torch.no_grad()
def encode(
    vae: AutoencoderKL, found: dataset.Catalogue, cells: Sequence[tuple[str, str]], size: int, workers: int = 1
) -> torch.Tensor:
    """(cells, 2, c, h, w) float16, scaled as the U-Net sees them."""
    parts = []
    with parallel(workers) as spread:
        drawn = iter(spread(draw, [(found.icons[name][style], style, size) for name, style in cells]))
        for start in tqdm(range(0, len(cells), AT_ONCE), desc="icons", unit="batch", mininterval=1.0):
            pictures = np.concatenate([next(drawn) for _ in cells[start : start + AT_ONCE]])
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(vae.device).float() / 127.5 - 1
            latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            parts.append(latents.unflatten(0, (-1, len(BACKGROUNDS))).half().cpu())
    return torch.cat(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the data set, whose icons are taken")
    parser.add_argument("--model", type=Path, required=True, help="model folder with the codec")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw (default: 1)")
    parser.add_argument("--cache", type=Path, default=sources.default_cache(), help="packages and icons")
    args = parser.parse_args(argv)
    for flag, file, what in (
        ("--data", args.data / "metadata.jsonl", "build it with build_data.py"),
        ("--data", args.data / "dataset.json", "build it with build_data.py"),
        ("--model", args.model / "vae" / "config.json", "build it with build_model.py"),
    ):
        if not file.is_file():
            parser.error(f"{flag}: there is no {file}; {what}")
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: at least 1")
    summary = json.loads((args.data / "dataset.json").read_text(encoding="utf-8"))
    cells = Labels(args.data).cells
    vae = AutoencoderKL.from_pretrained(args.model / "vae", torch_dtype=torch.float32).eval().to(args.device)
    try:
        found = dataset.catalogue(args.cache, args.workers)
    except sources.SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    latents = encode(vae, found, cells, summary["size"], args.workers)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_name(args.out.name + ".tmp")
    save_file({"latents": latents}, beside, metadata={"cells": json.dumps(cells)})
    beside.replace(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
