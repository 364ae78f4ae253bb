"""Train the canny ControlNet of the embedded model.

    python train.py --data DATA [--model MODEL] [--output FOLDER] [--steps N] [--resume] [--dry-run]

DATA is a data set of ``sdcore-mini/recipe/build_data.py``, made with ``--poses``. The net is ``FOLDER/mini-canny``;
``--install`` also puts it into this package; ``--help`` tells the rest. About 40 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from names import Names, NamesTraining
from pydantic import ValidationError
from sdcore_train import TrainConfig, dry_run, train

from sdcore import SdcoreError
from sdcore.cli.kit import complain, say, table
from sdcore.request import explain_validation

HERE = Path(__file__).resolve().parent
PACKAGE_DATA = HERE.parent / "src" / "sdcore_mini_control" / "data"
STYLES = ("3d", "gradient", "flat", "noto")
NAME = "mini-canny"


def shown_concepts(data: Path) -> list[str]:
    """What may be trained on: every picture's concept in which nothing is held out for the evaluation."""
    held_out = set(json.loads((HERE / "held_out.json").read_text(encoding="utf-8")))
    lines = (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    concepts = {json.loads(line)["concept"] for line in lines}
    return sorted(concept for concept in concepts if not held_out & set(concept.split(" | ")))


def config(
    *,
    data: Path,
    model: str | None,
    output: Path,
    steps: int,
    cache: Path | None,
    start: str | None,
    device: str,
    batch_size: int,
    learning_rate: float,
    workers: int,
) -> TrainConfig:
    """The training, with its fixed settings; ``start`` is a net to go on from."""
    names = Names()
    untold = math.ceil((names.other + names.nameless) * batch_size)
    where: dict[str, Any] = {"style": STYLES, "concept": shown_concepts(data)}
    return TrainConfig(
        model=model,
        output=str(output),
        data=[{"path": str(data), "where": where}],
        use=[
            {
                "plugin": "controlnet",
                "options": {
                    "preprocess": "canny",
                    "start": start,
                    # Controls of people have other thresholds, or are drawn by hand.
                    "vary": {"low": [70, 130], "high": [160, 260]},
                    "embedding_channels": [16, 32, 64, 128],
                    "embedding_init": "scaled",
                    "name": NAME,
                    "dtype": "float16",
                },
            },
            {"plugin": "names", "options": names.model_dump()},
            # `high` above Canny's own 200: what has no margin is lost on the way through the codec.
            {"plugin": "canny-consistency", "options": {"weight": 0.3, "pictures": untold, "high": 300}},
            # Where edges lie is decided while there is much noise.
            {"plugin": "timesteps", "options": {"distribution": "logit-normal", "mean": 0.8, "scale": 1.2}},
        ],
        steps=steps,
        batch_size=batch_size,
        seed=4,
        precision="bf16",
        device=device,
        threads=1,
        pictures={
            "height": 64,
            "buckets": False,
            "cache_folder": None if cache is None else str(cache),
            "workers": workers,
        },
        captions={"dropout": 0.2},
        optimizer={"learning_rate": learning_rate, "betas": [0.9, 0.99], "weight_decay": 0.01},
        schedule={"name": "cosine", "warmup": 30, "final": 0.02},
        checkpoints={"every": 100},
        logging={"every": 20},
    )


def install(folder: Path) -> None:
    """Put a net into this package, whole."""
    beside = PACKAGE_DATA.with_name("data.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    shutil.rmtree(PACKAGE_DATA, ignore_errors=True)
    beside.rename(PACKAGE_DATA)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("runs/control-data"), help="default: runs/control-data")
    parser.add_argument("--model", help="the model; without it the embedded one")
    parser.add_argument("--output", type=Path, default=Path("runs/mini-control"), help="default: runs/mini-control")
    parser.add_argument("--cache", type=Path, help="folder of encoded pictures; without it in the output folder")
    parser.add_argument("--start", help="a net to go on from, instead of the U-Net's encoder")
    parser.add_argument("--steps", type=int, default=1400, help="updates of the weights (default: 1400)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures of an update (default: 32)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of the net (default: 3e-4)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead (default: 0, a thread)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="train one step, estimate memory and time")
    parser.add_argument("--install", action="store_true", help="put the trained net into this package")
    args = parser.parse_args(argv)
    if not (args.data / "metadata.jsonl").is_file():
        parser.error(
            f"--data {args.data}: there is no metadata.jsonl; make the data with sdcore-mini/recipe/build_data.py "
            "--poses 2"
        )
    try:
        chosen = config(
            data=args.data,
            model=args.model,
            output=args.output,
            steps=args.steps,
            cache=args.cache,
            start=args.start,
            device=args.device,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            workers=args.workers,
        )
        if args.dry_run:
            say(table(dry_run(chosen, plugins=[NamesTraining]).rows()))
            return 0
        train(chosen, resume=args.resume, plugins=[NamesTraining])
        if args.install:
            install(args.output / NAME)
    except ValidationError as error:
        parser.error(explain_validation(error))
    except SdcoreError as error:
        complain(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
