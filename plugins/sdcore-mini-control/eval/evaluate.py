"""Measure whether drawn icons follow the edges of a control picture.

    python evaluate.py [--model MODEL] [--controlnet NET] [--sheet FILE.png]

For each pair of ``pairs.json`` a picture is drawn with and without the ControlNet, of the same prompt and seed. The
edges of both (by the same preprocessor that made the control) are compared with the control's: F1 with a tolerance of
one pixel. The net must not buy this with the prompt: in how many pictures the background stays as it is without the
net is counted too. Last, the posed icons are drawn once more, of prompts that name only style and background: what the
edges say then, no word does. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from edge_score import edges_of, f1
from PIL import Image
from sdcore_controlnet import ControlNet, ControlNetPlugin, preprocess_image
from tqdm import tqdm

from sdcore import Engine, SdcoreError
from sdcore.cli.kit import complain, say
from sdcore.contact_sheet import contact_sheet

HERE = Path(__file__).resolve().parent
SIDE, COLUMNS = 64, 16
WANTED, GAIN = 0.6, 0.3
SAME = 40
"""Difference of two backgrounds, of 255, up to which they count as the same."""


class Drawn(NamedTuple):
    """One pair, and what was drawn of it."""

    pair: dict[str, Any]
    control: Image.Image
    without: Image.Image
    controlled: Image.Image

    @property
    def scores(self) -> tuple[float, float]:
        """F1 without and with the ControlNet."""
        wanted = edges_of(self.control)
        without, controlled = (
            f1(edges_of(preprocess_image("canny", picture)), wanted) for picture in (self.without, self.controlled)
        )
        return without, controlled

    @property
    def kept(self) -> bool:
        """Whether the background has the colour that it has without the ControlNet."""
        return bool(np.abs(border(self.without) - border(self.controlled)).max() < SAME)


def border(picture: Image.Image) -> Any:
    """Median colour of the two outermost rows and columns, (3,) in 0..255."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    inside = np.zeros(pixels.shape[:2], bool)
    inside[2:-2, 2:-2] = True
    return np.median(pixels[~inside], axis=0)


def pairs() -> list[tuple[dict[str, Any], Image.Image]]:
    """What is asked for, and the control pictures."""
    listed = json.loads((HERE / "pairs.json").read_text(encoding="utf-8"))
    with Image.open(HERE / "edges.png") as sheet:
        found = []
        for number, pair in enumerate(listed):
            left, top = number % COLUMNS * SIDE, number // COLUMNS * SIDE
            found.append((pair, sheet.crop((left, top, left + SIDE, top + SIDE)).convert("RGB")))
    return found


def unnamed(
    chosen: Sequence[tuple[dict[str, Any], Image.Image]],
) -> list[tuple[dict[str, Any], Image.Image]]:
    """The posed pairs, of prompts without the thing."""
    return [
        ({**pair, "kind": "unnamed", "prompt": pair["prompt"].partition(", ")[2]}, control)
        for pair, control in chosen
        if pair["kind"] == "posed"
    ]


def draw(
    engine: Engine, net: Any, chosen: Sequence[tuple[dict[str, Any], Image.Image]], scale: float = 1.0, **fields: Any
) -> list[Drawn]:
    """Draw every pair twice."""
    found = []
    for pair, control in tqdm(chosen, desc="pairs", unit="pair", mininterval=1.0):
        asked = {"seed": pair["seed"], "height": SIDE, "width": SIDE, **fields}
        without = engine.generate(pair["prompt"], **asked).image
        use = [ControlNet(model=net, image=control, scale=scale)]
        found.append(Drawn(pair, control, without, engine.generate(pair["prompt"], use=use, **asked).image))
    return found


def figures(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Mean F1 with and without the ControlNet, over all pairs and by kind."""
    scores = [one.scores for one in drawn]
    kinds = list(dict.fromkeys(one.pair["kind"] for one in drawn))
    by_kind = {
        kind: {
            name: round(fmean(s[at] for s, one in zip(scores, drawn, strict=True) if one.pair["kind"] == kind), 4)
            for at, name in enumerate(("without", "with"))
        }
        for kind in kinds
    }
    without, controlled = (fmean(score[at] for score in scores) for at in (0, 1))
    return {
        "edge_f1": round(controlled, 4),
        "edge_f1_without": round(without, 4),
        "gain": round(controlled - without, 4),
        "kinds": by_kind,
        "background_kept": round(fmean(one.kept for one in drawn), 4),
        "pairs": len(drawn),
        "reached": controlled >= WANTED and controlled - without >= GAIN,
    }


def sheet(drawn: Sequence[Drawn], count: int = 12, zoom: int = 2) -> Image.Image:
    """Control pictures, below them what is drawn without and with them."""
    shown = [drawn[round(at * (len(drawn) - 1) / max(1, count - 1))] for at in range(min(count, len(drawn)))]
    pictures = [getattr(one, name) for name in ("control", "without", "controlled") for one in shown]
    labels = [one.pair["prompt"].removeprefix("an icon of ") for one in shown]
    texts = labels + ["without"] * len(shown) + ["with"] * len(shown)
    return contact_sheet(pictures, columns=len(shown), labels=texts, cell=SIDE * zoom)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="the model; without it the embedded one")
    parser.add_argument("--controlnet", default="mini-canny", help="the ControlNet (default: mini-canny)")
    parser.add_argument("--pairs", type=int, help="only so many of the pairs")
    parser.add_argument("--scale", type=float, default=1.0, help="of the ControlNet")
    parser.add_argument("--steps", type=int, help="without it the model's default")
    parser.add_argument("--sheet", type=Path, help="write a sheet of pictures")
    args = parser.parse_args(argv)
    fields: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
    chosen = pairs()[: args.pairs]
    try:
        engine = Engine.load(args.model, plugins=[ControlNetPlugin], device="cpu", dtype="float32")
        drawn = draw(engine, args.controlnet, chosen, args.scale, **fields)
        nameless = draw(engine, args.controlnet, unnamed(chosen), args.scale, **fields)
    except SdcoreError as error:
        complain(f"error: {error}")
        return 1
    if args.sheet is not None:
        sheet(drawn).save(args.sheet, optimize=True)
    found = figures(drawn)
    rows = dict(found["kinds"])
    if nameless:
        # Beside the others, not among them: what all pairs reach stays comparable.
        rows |= figures(nameless)["kinds"]
        found["unnamed"] = rows["unnamed"]
    for kind, values in rows.items():
        say(f"{kind}: F1 {values['without']:.3f} without, {values['with']:.3f} with")
    say(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
