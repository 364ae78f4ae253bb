"""Small trainings, and what they are compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sdcore_lora import LoRAPlugin, TrainLoRA
from sdcore_train import TrainConfig, train
from sdcore_train.events import Ended, Updated

from sdcore import Engine
from sdcore.models import load_model
from sdcore.testing.parity import Recorder, Trace, ours
from sdcore.testing.tiny import tiny_folder

SIZE = 32
FIELDS: dict[str, Any] = {
    "prompt": "a red cat",
    "negative_prompt": "blue dog",
    "height": SIZE,
    "width": SIZE,
    "steps": 3,
    "guidance_scale": 3.0,
    "seed": 1,
    "output": "latent",
}


def pictures(folder: Path, count: int = 4) -> Path:
    """A folder of noise pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    lines = []
    for number in range(count):
        Image.fromarray(draw.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"a red apple, style {number % 2}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def config(folder: Path, family: str = "sd1", lora: Any = None, **fields: Any) -> TrainConfig:
    """Two steps of two pictures, with a rate at which they show; ``lora`` is the options."""
    if not (folder / "data").exists():
        pictures(folder / "data")
    values: dict[str, Any] = {
        "model": str(tiny_folder(family)),
        "output": str(folder / "out"),
        "data": [{"path": str(folder / "data")}],
        "use": [lora or TrainLoRA(rank=4, targets="attn2", dtype="float32")],
        "steps": 2,
        "batch_size": 2,
        "device": "cpu",
        "pictures": {"height": SIZE, "buckets": False, "cache": "off", "prefetch": 0},
        "captions": {"dropout": 0.0},
        "optimizer": {"learning_rate": 0.02},
        "logging": {"every": 1, "curve": 0},
    }
    return TrainConfig(**{**values, **fields})


class Watch:
    """Losses of a training, and what the model draws at its end, with the trained layers still in it."""

    def __init__(self, look: bool = False, stop: int | None = None) -> None:
        self.losses: list[float] = []
        self.trace: Trace | None = None
        self._look = look
        self._stop = stop

    def __call__(self, event: Any) -> None:
        if isinstance(event, Updated):
            self.losses.append(event.loss)
            if event.index + 1 == self._stop:
                raise Stop
        if isinstance(event, Ended) and self._look:
            with event.job.evaluating(), torch.no_grad():
                self.trace = ours(Engine(event.job.model, plugins=[Recorder]), **FIELDS)


class Stop(Exception):
    """What a kill looks like from inside."""


def run(made: TrainConfig, model: Any = None, watch: Watch | None = None, resume: bool = False) -> Any:
    """Train: (model, result, watch)."""
    model = model or load_model(made.model, device="cpu", dtype="float32")
    watch = watch or Watch()
    result = train(made, model=model, resume=resume, on_event=watch, say=lambda _: None, progress=False)
    return model, result, watch


def drawn(model: Any, *use: Any) -> Trace:
    """What the engine draws."""
    return ours(Engine(model, plugins=[LoRAPlugin, Recorder]), use=list(use), **FIELDS)


def weights(model: Any) -> dict[str, Any]:
    """A copy of all weights of a model."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, part in model.components.items()
        for key, value in part.state_dict().items()
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether all are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
