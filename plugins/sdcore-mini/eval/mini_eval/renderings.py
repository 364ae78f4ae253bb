"""The icons as tensors, and held-out renderings of them: placed otherwise than in the training data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mini_recipe import icons
from mini_recipe.dataset import Catalogue
from mini_recipe.pictures import colours, compose, visible
from mini_recipe.rng import stream
from PIL import Image
from torch import Tensor
from tqdm import tqdm

STORED = 80
SEED = 77
#: Held-out renderings: the icon's side as a share of the picture's, and its shift. Training data has 0.845..0.905.
SHARES, SHIFT = ((0.78, 0.84), (0.91, 0.95)), 0.03


@dataclass(frozen=True)
class IconTable:
    """All icons of a catalogue.

    Attributes:
        keys: concept and style of each.
        paths: their files.
        pixels: (count, 4, STORED, STORED) uint8, premultiplied.
        seen: names of the backgrounds on which each can be seen.
    """

    keys: tuple[tuple[str, str], ...]
    paths: tuple[Path, ...]
    pixels: Tensor
    seen: tuple[tuple[str, ...], ...]


def to_tensor(picture: Image.Image) -> Tensor:
    """(3, h, w) in 0..1."""
    return torch.from_numpy(np.array(picture.convert("RGB"), np.uint8)).permute(2, 0, 1).float() / 255


def premultiplied(icon: Image.Image, side: int) -> Tensor:
    """(4, side, side) uint8: colour times alpha, and alpha."""
    pixels = np.asarray(icon.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return torch.from_numpy(pixels.round().astype(np.uint8)).permute(2, 0, 1).contiguous()


def table(catalogues: Iterable[Catalogue]) -> IconTable:
    """Read every icon of the catalogues."""
    cells = [
        (concept.name, style, path)
        for catalogue in catalogues
        for concept in catalogue.concepts
        for style, path in catalogue.icons[concept.name].items()
    ]
    pixels, seen = [], []
    for _, style, path in tqdm(cells, desc="reading icons", unit="icon", mininterval=1.0):
        icon = icons.load(path)
        pixels.append(premultiplied(icon, STORED))
        seen.append(tuple(visible(icon, style)))
    return IconTable(
        tuple((name, style) for name, style, _ in cells),
        tuple(path for _, _, path in cells),
        torch.stack(pixels),
        tuple(seen),
    )


def held_out(icon: Image.Image, concept: str, style: str, colour: str, side: int, number: int = 0) -> Image.Image:
    """A rendering that the training data does not have: larger or smaller, and moved; the same for a number."""
    random = stream(SEED, "rendering", concept, style, colour, number)
    share = random.uniform(*random.choice(SHARES))
    shift = (random.uniform(-SHIFT, SHIFT), random.uniform(-SHIFT, SHIFT))
    return compose(icon, style, colours()[colour], side, share, shift)
