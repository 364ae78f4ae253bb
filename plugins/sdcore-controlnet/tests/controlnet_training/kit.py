from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sdcore_train import TrainConfig, Training, ports, train

from sdcore import Options
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

torch.set_num_threads(1)
WIDTHS = (8, 8, 16)
"""The tiny codec has a factor of 4."""


def draw_data(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Pictures of coloured squares, with captions."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        small = Image.fromarray(draw.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        small.resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"a red apple {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


class Look(Training):
    """Keeps the first outcome."""

    name = "look"
    Options = Options
    seen: Any = None

    def stages(self, job: Any) -> Any:
        def keep(outcome: Any, _: Any) -> None:
            if outcome.step.number == 0:
                Look.seen = outcome

        return ports.loss_weights(keep)


def config(tmp_path: Path, data: Any, family: str = "sd1", method: str = "controlnet", **fields: Any) -> TrainConfig:
    """A training of a tiny net; ``options`` are those of the method, ``more`` are further entries of use."""
    chosen = {"preprocess": "canny", "dtype": "float32", **fields.pop("options", {})}
    if method == "controlnet":
        chosen.setdefault("embedding_channels", WIDTHS)
    pictures = {"height": 32, "buckets": False, "cache": "off", "prefetch": 0, **fields.pop("pictures", {})}
    values: dict[str, Any] = {
        "model": str(tiny_folder(family)),
        "output": str(tmp_path / "out"),
        "data": data if isinstance(data, list) else [{"path": str(data)}],
        "use": [{"plugin": method, "options": chosen}, *fields.pop("more", []), "look"],
        "steps": 1,
        "batch_size": 3,
        "device": "cpu",
        "pictures": pictures,
        "captions": {"dropout": 0.0},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "betas": (0.0, 0.999), "weight_decay": 0.0, "clip": 0.0},
    }
    return TrainConfig(**(values | fields))


def run(made: TrainConfig, **how: Any) -> tuple[Any, Any]:
    """(model, what the training made)."""
    model = load_model(made.model, device="cpu", dtype="float32")
    return model, train(made, model=model, plugins=[Look], say=lambda _: None, progress=False, **how)


def state_of(family: str = "sd1") -> dict[str, Any]:
    """The weights of an untouched U-Net."""
    weights: dict[str, Any] = load_model(tiny_folder(family), device="cpu", dtype="float32").unet.state_dict()
    return weights
