"""One subject learnt in one way: the data folder, the training, an engine with the result."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from sdcore_dreambooth import DreamBooth
from sdcore_train import TrainConfig, train

from sdcore import Engine
from sdcore.models import Model, load_model

from .prompts import captions_of
from .settings import CLASS_PICTURES, CLASS_SEED, CLASS_STEPS, LORA, SEED, TOKEN, Plan


def write_data(folder: Path, pictures: Sequence[tuple[Image.Image, str]], style: str) -> Path:
    """A subject's pictures with captions, as a user would lay them out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = []
    for number, (picture, colour) in enumerate(pictures):
        picture.save(folder / f"{number}.png")
        lines.append({"file_name": f"{number}.png", "captions": captions_of(style, colour)})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def hashes_of_weights(model: Model) -> dict[str, str]:
    """SHA-256 of all weights as they are in memory, by component."""
    found = {}
    for name, part in model.components.items():
        digest = hashlib.sha256()
        for key, value in sorted(part.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


def learn(
    model: str | None, data: Path, kind: str, class_prompts: tuple[str, ...], plan: Plan, work: Path, size: int
) -> tuple[Engine, list[str], bool, float]:
    """Train, and load what came out.

    Args:
        model: as users name it; None is the installed one.
        data: the subject's pictures.
        kind: its class.
        class_prompts: of class pictures.
        plan: how.
        work: a folder; class pictures are kept beside it.
        size: of pictures, in pixels.

    Returns:
        An engine, what its requests must use, and whether the model's weights are what they were before, and
        the seconds that the steps of the training took.
    """
    shutil.rmtree(work, ignore_errors=True)
    options = DreamBooth(
        path=str(data),
        token=TOKEN,
        class_name=kind,
        class_prompts=class_prompts,
        mode=plan.mode,
        prior_weight=plan.prior,
        class_count=CLASS_PICTURES,
        class_steps=CLASS_STEPS,
        class_seed=CLASS_SEED,
        class_batch=8,
        class_cache=str(work.parent / "class-pictures"),
        lora=LORA if plan.mode == "lora" else {},
    )
    config: dict[str, Any] = {
        "model": model,
        "output": str(work),
        "use": [options] if plan.mode == "lora" else [options, {"plugin": "full", "options": {"dtype": "float32"}}],
        "steps": plan.steps,
        "batch_size": plan.batch if plan.prior else plan.batch // 2,
        "seed": SEED,
        "device": "cpu",
        "pictures": {"height": size, "width": size},
        "optimizer": {"learning_rate": plan.rate},
        "schedule": {"name": "cosine", "warmup": 10},
        "checkpoints": {"every": 0},
        "samples": {"prompts": ()},
        "logging": {"curve": 0, "every": 50},
    }
    base = load_model(model, device="cpu", dtype="float32")
    before = hashes_of_weights(base)
    result = train(TrainConfig(**config), model=base, say=lambda text: None, progress=False)
    untouched = hashes_of_weights(base) == before
    if plan.mode == "lora":
        [path] = [path for path in result.files if path.suffix == ".safetensors"]
        return Engine(base, plugins=["lora"]), [f"lora:path={path}"], untouched, result.seconds
    return Engine.load(result.files[0], plugins=[]), [], untouched, result.seconds
