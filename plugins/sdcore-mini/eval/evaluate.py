"""Measure the embedded model, or another one that was trained on the same icons. The last line is JSON.

The classifier's weights lie beside this file; the icons and VGG16's weights are fetched on first use.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipe"))

import numpy as np
import torch
from mini_eval import background, drawing, frechet, network, prompts, renderings, sheets, vgg
from mini_recipe import dataset, icons, sources
from mini_recipe.pictures import colours, visible
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sdcore import Engine
from sdcore.errors import SdcoreError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
FIGURES = ("concept_top1", "concept_top5", "style", "background", "psnr", "frechet", "prompts")
DEFAULT_STYLES = ("3d", "gradient", "flat", "noto")


def small(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of any size as (count, 3, 64, 64) in 0..1, which is what is judged."""
    side = (network.SIDE, network.SIDE)
    resized = [
        picture if picture.size == side else picture.resize(side, Image.Resampling.LANCZOS) for picture in pictures
    ]
    return torch.stack([renderings.to_tensor(picture) for picture in resized])


def render(
    wanted: Sequence[prompts.Prompt], paths: dict[tuple[str, str], Path], side: int, number: int
) -> list[Image.Image]:
    """The held-out rendering of what each prompt asks for."""
    return [
        renderings.held_out(
            icons.load(paths[prompt.concept, prompt.style]), prompt.concept, prompt.style, prompt.colour, side, number
        )
        for prompt in tqdm(wanted, desc="held-out renderings", unit="picture", mininterval=1.0)
    ]


def judged(
    judge: network.Judge, pictures: Sequence[Image.Image], wanted: Sequence[prompts.Prompt]
) -> list[dict[str, Any]]:
    """For each picture, what it was taken for and whether that is right."""
    tensor = small(pictures)
    by_concept, by_style = judge.scores(tensor)
    best = by_concept.topk(5).indices.tolist()
    styles = by_style.argmax(1).tolist()
    found = []
    for index, prompt in enumerate(wanted):
        guesses = [judge.concepts[number] for number in best[index]]
        style = judge.styles[styles[index]]
        border = background.border_mean(tensor[index].permute(1, 2, 0).numpy() * 255)
        colour = background.named(border, colours())
        found.append(
            {
                **asdict(prompt),
                "guesses": guesses,
                "style_seen": style,
                "colour_seen": colour,
                "top1": guesses[0] == prompt.concept,
                "top5": prompt.concept in guesses,
                "style_right": style == network.style_class(prompt.style),
                "background_right": colour == prompt.colour,
            }
        )
    return found


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shares of right pictures."""
    keys = {"concept_top1": "top1", "concept_top5": "top5", "style": "style_right", "background": "background_right"}
    return {name: round(sum(row[key] for row in rows) / len(rows), 4) for name, key in keys.items()}


def distances(
    drawn: Sequence[Image.Image], held: Sequence[Sequence[Image.Image]], cache: Path
) -> tuple[float, float, float]:
    """Frechet distance of the drawn pictures, that of held-out renderings themselves, and the axes' share of variance.

    The reference is every held-out rendering but the first of each prompt; the first ones give the floor.
    """
    network_of_features = vgg.load(cache)
    sets = [
        vgg.features(small(pictures), network_of_features).double().numpy()
        for pictures in tqdm((drawn, *held), desc="VGG features", unit="set")
    ]
    reference = np.concatenate(sets[2:])
    mean, axes = frechet.principal_axes(reference, min(frechet.AXES, len(drawn) // 3))
    first, floor, basis = ((values - mean) @ axes for values in (sets[0], sets[1], reference))
    kept = float(basis.var(0).sum() / (reference - mean).var(0).sum())
    return frechet.distance(first, basis), frechet.distance(floor, basis), kept


def record(row: dict[str, Any], path: Path) -> None:
    """Write a row into the table of results, in place of one of the same name."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [other for other in rows if other["model"] != row["model"]] + [row]
    beside = path.with_suffix(".json.tmp")
    beside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Parsed and checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="diffusers folder or name of an installed model")
    parser.add_argument("--steps", type=int, help="denoising steps; default: the model's")
    parser.add_argument("--guidance", type=float, help="guidance scale; default: the model's")
    parser.add_argument("--prompts", type=int, default=330, help="number of prompts, at least 30")
    parser.add_argument("--styles", default=",".join(DEFAULT_STYLES), help="styles of the prompts, by comma")
    parser.add_argument("--style-names", default="", help="what a style word means to the model: 3d=gradient")
    parser.add_argument(
        "--data", type=Path, default=sources.default_cache(), help="packages and icons; built if absent"
    )
    parser.add_argument("--out", type=Path, default=Path("mini-eval-out"), help="folder of the sheets and of details")
    parser.add_argument("--record", metavar="NAME", help=f"write a row of this name into {RESULTS.name}")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(given)
    options.styles = [style.strip() for style in options.styles.split(",") if style.strip()]
    try:
        parts = [part.split("=") for part in options.style_names.split(",") if part]
        options.style_names = {part[0].strip(): part[1].strip() for part in parts}
    except IndexError:
        parser.error(f"--style-names {options.style_names!r}: write WORD=STYLE, several by comma")
    unknown = [style for style in options.styles if options.style_names.get(style, style) not in icons.STYLES]
    if unknown or not options.styles:
        parser.error(f"--styles: {unknown or 'none given'}; there are {', '.join(icons.STYLES)}")
    if options.prompts < 30:
        parser.error("--prompts must be at least 30, or the Frechet distance means nothing")
    return options


def main(given: list[str] | None = None) -> int:
    """Draw, judge, and print the figures."""
    options = arguments(given)
    torch.set_num_threads(options.threads)
    try:
        judge = network.load(HERE)
        engine = Engine.load(options.model, plugins=())
        catalogue = dataset.catalogue(options.data)
        paths = {(name, style): path for name, styles in catalogue.icons.items() for style, path in styles.items()}
        words = {options.style_names.get(style, style) for style in options.styles}
        seen = {
            key: visible(icons.load(path), key[1])
            for key, path in tqdm(paths.items(), desc="reading icons", unit="icon", mininterval=1.0)
            if key[1] in words
        }
        wanted = prompts.make(seen, options.prompts, options.styles, options.style_names)
        options.out.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        drawn = drawing.draw(engine, wanted, options.steps, options.guidance)
        seconds = (time.monotonic() - began) / len(wanted)
        rows = judged(judge, drawn, wanted)
        side = drawn[0].width
        held = [render(wanted, paths, side, number) for number in range(3)]
        by_picture, pooled = drawing.reconstruction(engine, torch.stack([renderings.to_tensor(one) for one in held[0]]))
        distance, floor, kept = distances(drawn, held, options.data)
        ceiling = shares(judged(judge, held[0], wanted))
        free = [
            engine.generate(text, seed=0, count=4, steps=options.steps, guidance_scale=options.guidance).images
            for text in tqdm(prompts.FREE, desc="free prompts", unit="prompt")
        ]
    except (SdcoreError, sources.SourceError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = [not row["top1"] for row in rows]
    sheets.grid(drawn, 22, wrong).save(options.out / "pictures.png", optimize=True)
    sheets.captioned(free, prompts.FREE, scale=max(1, 96 // side)).save(options.out / "free.png", optimize=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (options.out / "details.jsonl").write_text(lines, encoding="utf-8")
    figures: dict[str, Any] = {
        **shares(rows),
        "psnr": round(by_picture, 2),
        "frechet": round(distance, 2),
        "prompts": len(wanted),
    }
    more = {
        "psnr_of_mean_error": round(pooled, 2),
        "frechet_of_renderings": round(floor, 2),
        "frechet_axes_share": round(kept, 3),
        "judge_on_renderings": ceiling,
        "seconds_a_picture": round(seconds, 2),
    }
    by_style = {
        word: shares([row for row in rows if row["text"].find(f", {word} style,") >= 0]) for word in options.styles
    }
    for name, value in {**figures, **more, **{f"{word} style": value for word, value in by_style.items()}}.items():
        print(f"{name:24} {value}")
    if options.record:
        settings = {
            "steps": options.steps,
            "guidance": options.guidance,
            "styles": options.styles,
            "style_names": options.style_names,
        }
        row = {"model": options.record, "settings": settings, **figures, **more, "by_style": by_style}
        record(row, RESULTS)
    print(json.dumps({key: figures[key] for key in FIGURES}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
