"""Small models, small data, and the shortest way to train one on the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sdcore_train import TrainConfig, train

from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

SIZE = 32


def pictures(folder: Path, count: int = 8, size: int = SIZE) -> Path:
    """A folder of noise pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    lines = []
    for number in range(count):
        Image.fromarray(draw.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"a red apple {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def config(folder: Path, family: str = "sd1", **fields: Any) -> TrainConfig:
    """Two steps of four pictures; latents are not cached."""
    values: dict[str, Any] = {
        "model": str(tiny_folder(family)),
        "output": str(folder / "out"),
        "data": [{"path": str(folder / "data")}],
        "use": ["full"],
        "steps": 2,
        "batch_size": 4,
        "device": "cpu",
        "pictures": {"height": SIZE, "buckets": False, "cache": "off", "prefetch": 0},
        "captions": {"dropout": 0.0, "cache": False},
        "optimizer": {"learning_rate": 1e-3},
        "logging": {"every": 1, "curve": 0},
    }
    for name, value in fields.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) and name in values else value
    if not (folder / "data").exists():
        pictures(folder / "data")
    return TrainConfig(**values)


def run(made: TrainConfig, **how: Any) -> Any:
    """Train, and give the model that was trained along with the result."""
    model = how.pop("model", None) or load_model(made.model, device="cpu", dtype="float32")
    result = train(made, model=model, say=lambda _: None, progress=False, **how)
    return model, result


def weights(module: Any) -> dict[str, Any]:
    """A copy of a network's weights."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether all weights are equal bit for bit."""
    import torch

    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
