"""A style LoRA for the embedded model: the line art of Fluent Emoji High Contrast, which the model has never seen.

1. Pictures in the style "line art" are taken from the data set of sdcore-mini's recipe; one concept in ten is held out.
2. A LoRA of rank 16 is trained for 1,600 steps, half an hour on one core.
3. Held-out concepts are drawn without and with it, beside what they look like in the data set.
4. A line of JSON says how many of 60 are line art, by a rule whose accuracy is stated with it, and by the
   classifier of sdcore-mini's evaluation.

    python line_art.py OUT_FOLDER --data FOLDER [--model MODEL]

The data set is made by ``python plugins/sdcore-mini/recipe/build_data.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from sdcore_lora import LoRA, TrainLoRA
from sdcore_train import TrainConfig, train

from sdcore import Engine

STYLE = "line art"
STEPS, BATCH, RATE, SEED = 1600, 32, 1e-3, 0
LORA = TrainLoRA(rank=16, targets="linear", file="line-art")
DRAWN = 60
"""Pictures that are judged, one of each of so many held-out concepts."""
CALIBRATED = 250
"""Pictures of either kind that the rule is found on."""
SHOWN = (
    *("rabbit face", "pig face", "goat", "leopard", "guitar", "camera", "helicopter", "ship"),
    *("lemon", "rose", "sun", "t-shirt", "money bag", "cookie", "magnet", "hot face"),
)
"""Held-out concepts on the sheet."""


def held_out(concept: str) -> bool:
    """One concept in ten, whatever else is in the data set."""
    return hashlib.blake2b(concept.encode(), digest_size=4).digest()[0] % 10 == 0


def records(data: Path) -> list[dict[str, Any]]:
    """What the data set has of single icons."""
    lines = (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [one for one in found if one.get("kind", "icon") == "icon"]


def gather(data: Path, chosen: list[dict[str, Any]], folder: Path) -> Path:
    """A folder with some of the pictures, as the trainer reads it, whose captions do not name the style.

    So the LoRA needs no words of its own: whatever is asked for becomes line art.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = []
    for number, one in enumerate(chosen):
        source, target = data / one["file_name"], folder / f"{number:05d}.png"
        try:
            os.link(source, target)
        except OSError:
            shutil.copy(source, target)
        plain = [re.sub(rf"(,? ?|\ba ){STYLE}( style)?", "", caption).strip(" ,") for caption in one["captions"]]
        lines.append(json.dumps({"file_name": target.name, "captions": plain}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def learn(data: Path, out: Path, model: str | None) -> Path:
    """Train; returns the LoRA."""
    config = TrainConfig(
        model=model,
        output=str(out / "training"),
        data=[{"path": str(data)}],
        use=[LORA, "min-snr"],
        steps=STEPS,
        batch_size=BATCH,
        seed=SEED,
        optimizer={"learning_rate": RATE, "weight_decay": 0.0},
        schedule={"name": "cosine", "warmup": 20},
        ema={"decay": 0.99},
        checkpoints={"every": 0},
        device="cpu",
        threads=1,
        precision="bf16",
    )
    shutil.rmtree(out / "training", ignore_errors=True)
    return train(config).files[0]


# -- is it line art? ------------------------------------------------------------------------------------------


def ink(picture: Image.Image) -> float:
    """The share of what is drawn on a white background that is black.

    The background is the median of the border. What is drawn is farther from it than 0.25 (in RGB, each 0 to 1), and
    black is what is nearer than 0.35 to it.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    drawn = pixels[np.linalg.norm(pixels - np.median(border, axis=0), axis=-1) > 0.25]
    return float((np.linalg.norm(drawn, axis=-1) < 0.35).mean()) if len(drawn) else 0.0


def through_codec(engine: Engine, pictures: list[Image.Image]) -> list[Image.Image]:
    """What the model's codec makes of pictures: nothing that it draws can be better."""
    vae: Any = engine.model.vae
    found = []
    with torch.no_grad():
        for picture in pictures:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].to(vae.device, vae.dtype)
            made = vae.decode(vae.encode(pixels / 127.5 - 1).latent_dist.mode()).sample[0]
            found.append(Image.fromarray(((made.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).cpu().numpy()))
    return found


def calibrated(engine: Engine, data: Path, found: list[dict[str, Any]]) -> tuple[float, float]:
    """The share of ink from which a picture counts as line art, and how often that is right.

    It is found on white pictures of the data set, half of them line art, after they went through the model's codec.
    """
    shares = []
    for wanted in (True, False):
        kind = [one for one in found if (one["style"] == STYLE) == wanted and one["background"] == "white"]
        chosen = random.Random(SEED).sample(kind, min(CALIBRATED, len(kind)))
        pictures = through_codec(engine, [Image.open(data / one["file_name"]) for one in chosen])
        shares.append(np.array([ink(picture) for picture in pictures]))
    lines, others = shares
    limits = np.linspace(0.02, 0.98, 97)
    right = [((lines >= limit).mean() + (others < limit).mean()) / 2 for limit in limits]
    best = int(np.argmax(right))
    return float(limits[best]), float(right[best])


def judge(pictures: list[Image.Image], limit: float) -> dict[str, float]:
    """How many are line art, and the mean share of ink."""
    shares = np.array([ink(picture) for picture in pictures])
    return {"line_art": round(float((shares >= limit).mean()), 3), "ink": round(float(shares.mean()), 3)}


def classified(folder: Path, pictures: list[Image.Image], names: list[str]) -> dict[str, float]:
    """What the classifier of sdcore-mini's evaluation says: shares whose style and whose concept it finds."""
    sys.path.insert(0, str(folder))
    from mini_eval import network

    judge = network.load(folder)
    pixels = np.stack([np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures])
    concepts, styles = judge.scores(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    wanted = [judge.concepts.index(name) if name in judge.concepts else -1 for name in names]
    first = concepts.topk(5).indices
    return {
        "classifier_line_art": round(float((styles.argmax(1) == judge.styles.index(STYLE)).float().mean()), 3),
        "classifier_concept_top5": round(float((first == torch.tensor(wanted)[:, None]).any(1).float().mean()), 3),
    }


def sheet(rows: list[tuple[str, list[Image.Image]]], titles: list[str]) -> Image.Image:
    """Columns with titles, a name to each row, in two halves beside each other."""
    size, left, top = 72, 92, 18
    half = -(-len(rows) // 2)
    width = left + size * len(titles)
    out = Image.new("RGB", (2 * width, top + half * size), "white")
    draw = ImageDraw.Draw(out)
    for number, (name, pictures) in enumerate(rows):
        x, y = width * (number // half), top + size * (number % half)
        draw.text((x + 6, y + size // 2 - 8), name.replace(" ", "\n", 1), fill="black")
        for column, picture in enumerate(pictures):
            out.paste(picture.convert("RGB"), (x + left + size * column, y + 4))
    for column, title in enumerate(titles):
        for x in (0, width):
            draw.text((x + left + size * column + 4, 4), title, fill="black")
    return out


def main() -> None:
    """Train, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder for everything that is written")
    parser.add_argument("--data", type=Path, required=True, help="the data set of sdcore-mini's recipe")
    parser.add_argument("--model", help="name or folder; the installed one is taken by default")
    parser.add_argument("--lora", type=Path, help="judge this file instead of training one")
    beside = Path(__file__).resolve().parents[2] / "sdcore-mini" / "eval"
    parser.add_argument("--judge", type=Path, default=beside, help="folder of the classifier, if there is one")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = records(args.data)
    lines = [one for one in found if one["style"] == STYLE]
    seen = [one for one in lines if not held_out(one["concept"])]
    new = {one["concept"]: one for one in reversed(lines) if held_out(one["concept"]) and one["background"] == "white"}
    path = args.lora
    if path is None:
        path = Path(shutil.copy(learn(gather(args.data, seen, args.out / "data"), args.out, args.model), args.out))
    engine = Engine.load(args.model)
    limit, accuracy = calibrated(engine, args.data, found)
    shown = [name for name in SHOWN if name in new]
    others = sorted(new.keys() - set(shown))
    names = [*shown, *random.Random(SEED).sample(others, min(DRAWN - len(shown), len(others)))]
    columns: dict[str, list[Image.Image]] = {"without": [], "with": [], "data set": []}
    for number, name in enumerate(names):
        prompt = f"an icon of a {name}, white background"
        columns["without"].append(engine.generate(prompt, seed=number).image)
        columns["with"].append(engine.generate(prompt, seed=number, use=[LoRA(path=path)]).image)
        columns["data set"].append(Image.open(args.data / new[name]["file_name"]).convert("RGB"))
        print(f"{number + 1}/{len(names)} drawn", end="\r", file=sys.stderr, flush=True)
    rows = list(zip(names, zip(*columns.values(), strict=True), strict=True))
    sheet([(name, list(row)) for name, row in rows[: len(shown)]], list(columns)).quantize(128).save(
        args.out / "line-art.png", optimize=True
    )

    def both(pictures: list[Image.Image]) -> dict[str, float]:
        more = classified(args.judge, pictures, names) if (args.judge / "classifier.safetensors").is_file() else {}
        return judge(pictures, limit) | more

    told = {
        "pictures": len(names),
        "concepts_held_out": len(new),
        **{name.replace(" ", "_"): both(pictures) for name, pictures in columns.items()},
        "data_set_through_codec": both(through_codec(engine, columns["data set"])),
        "rule": {"limit": round(limit, 2), "accuracy": round(accuracy, 3)},
        "bytes": path.stat().st_size,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
