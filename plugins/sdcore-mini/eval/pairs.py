"""Whether two things in one picture are what was asked, and where it was asked. The last line is JSON.

    python pairs.py [--model NAME] [--pairs 100]

Each half of a picture is enlarged and shown to the classifier, and so are true renderings of the same pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipe"))

import torch
from mini_eval import network, renderings
from mini_recipe import captions, dataset, icons, sources
from mini_recipe.pictures import colours
from mini_recipe.rng import stream
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sdcore import Engine
from sdcore.errors import SdcoreError

HERE = Path(__file__).resolve().parent
STYLES = ("3d", "gradient", "flat", "noto")
FIRST_PICTURE_SEED = 3000


class Pair(NamedTuple):
    """Two things, the first left of or above the second."""

    first: str
    second: str
    style: str
    stacked: bool

    @property
    def text(self) -> str:
        """The prompt."""
        there = "above" if self.stacked else "left of"
        names = f"{captions.with_article(self.first)} {there} {captions.with_article(self.second)}"
        return f"{names}, {self.style} style, white background"


def make(found: dataset.Catalogue, number: int) -> list[Pair]:
    """Pairs by a fixed seed; styles and ways to stand take turns."""
    random = stream(5, "pairs of the evaluation")
    pairs = []
    for index in range(number):
        style = STYLES[index % len(STYLES)]
        first, second = random.sample([name for name, styles in found.icons.items() if style in styles], 2)
        pairs.append(Pair(first, second, style, index % 8 >= 4))
    return pairs


def halves(picture: Image.Image, stacked: bool) -> list[Tensor]:
    """Where the first and where the second thing stands, each enlarged to what the classifier sees."""
    side, half, quarter = picture.width, picture.width // 2, picture.width // 4
    corners = ((quarter, 0), (quarter, half)) if stacked else ((0, quarter), (half, quarter))
    boxes = [(left, top, left + side - half, top + side - half) for left, top in corners]
    size = (network.SIDE, network.SIDE)
    return [renderings.to_tensor(picture.crop(box).resize(size, Image.Resampling.BICUBIC)) for box in boxes]


def told(judge: network.Judge, pictures: Sequence[Image.Image], pairs: Sequence[Pair]) -> dict[str, float]:
    """Shares: of things that are what was asked, and of pairs likelier in the asked order than in the other."""
    cut = [half for picture, pair in zip(pictures, pairs, strict=True) for half in halves(picture, pair.stacked)]
    scores, _ = judge.scores(torch.stack(cut))
    things = order = 0
    for number, pair in enumerate(pairs):
        here, there = scores[2 * number], scores[2 * number + 1]
        first, second = (judge.concepts.index(name) for name in (pair.first, pair.second))
        things += int(here.argmax() == first) + int(there.argmax() == second)
        order += int(here[first] + there[second] > here[second] + there[first])
    return {"things": round(things / 2 / len(pairs), 4), "order": round(order / len(pairs), 4)}


def main(given: list[str] | None = None) -> int:
    """Draw, judge, and print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mini", help="diffusers folder or name of an installed model")
    parser.add_argument("--pairs", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--data", type=Path, default=sources.default_cache(), help="packages and icons")
    options = parser.parse_args(given)
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: at least 1")
    torch.set_num_threads(1)
    try:
        judge, engine = network.load(HERE), Engine.load(options.model, plugins=())
        found = dataset.catalogue(options.data)
        pairs = make(found, options.pairs)
        drawn = [
            engine.generate(pair.text, seed=FIRST_PICTURE_SEED + number).images[0].convert("RGB")
            for number, pair in enumerate(tqdm(pairs, desc="drawing", unit="picture", mininterval=1.0))
        ]
    except (SdcoreError, sources.SourceError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    true = []
    for pair in pairs:
        first, second = (icons.load(found.icons[name][pair.style]) for name in (pair.first, pair.second))
        white = colours()["white"]
        true.append(dataset.pair_picture(first, second, pair.style, white, drawn[0].width, pair.stacked))
    for name, pictures in (("renderings", true), (options.model, drawn)):
        figures = told(judge, pictures, pairs)
        print(json.dumps({"of": name, **figures, "pairs": len(pairs)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
