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
from safetensors.torch import save_file
from tqdm import tqdm

BACKGROUNDS = ("white", "black")
AT_ONCE = 32


@torch.no_grad()
def encode(vae: AutoencoderKL, found: dataset.Catalogue, cells: Sequence[tuple[str, str]], size: int) -> torch.Tensor:
    """(cells, 2, c, h, w) float16, scaled as the U-Net sees them."""
    parts = []
    for start in tqdm(range(0, len(cells), AT_ONCE), desc="icons", unit="batch", mininterval=1.0):
        drawn = [
            np.asarray(compose(icons.load(found.icons[name][style]), style, colours()[colour], size))
            for name, style in cells[start : start + AT_ONCE]
            for colour in BACKGROUNDS
        ]
        pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        parts.append(latents.unflatten(0, (-1, len(BACKGROUNDS))).half())
    return torch.cat(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the data set, whose icons are taken")
    parser.add_argument("--model", type=Path, required=True, help="model folder with the codec")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=sources.default_cache(), help="packages and icons")
    args = parser.parse_args(argv)
    summary = json.loads((args.data / "dataset.json").read_text(encoding="utf-8"))
    cells = Labels(args.data).cells
    vae = AutoencoderKL.from_pretrained(args.model / "vae", torch_dtype=torch.float32).eval()
    latents = encode(vae, dataset.catalogue(args.cache), cells, summary["size"])
    beside = args.out.with_name(args.out.name + ".tmp")
    save_file({"latents": latents}, beside, metadata={"cells": json.dumps(cells)})
    beside.replace(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
