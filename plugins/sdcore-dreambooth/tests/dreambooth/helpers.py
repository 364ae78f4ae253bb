"""What the tests of this package share: pictures of a subject, configurations, a plugin that looks on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_train import Outcome, TrainConfig, Training, ports

from sdcore import Contributions
from sdcore.host import PluginHost
from sdcore.testing.tiny import tiny_folder

needs_lora = pytest.mark.skipif("lora" not in PluginHost().registry.all("training"), reason="needs sdcore-lora[train]")


def pictures(folder: Path, count: int = 3, seed: int = 0) -> Path:
    """A folder of random pictures of 32x32 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def config(output: Path, *use: Any, family: str = "sd1", **fields: Any) -> TrainConfig:
    """A short training of a tiny model at 32x32 pixels, without sample pictures."""
    values: dict[str, Any] = {
        "model": str(tiny_folder(family)),
        "output": str(output),
        "use": use,
        "steps": 1,
        "batch_size": 4,
        "device": "cpu",
        "pictures": {"height": 32, "cache": "off", "prefetch": 0},
        "samples": {"prompts": ()},
        "logging": {"curve": 0},
    }
    return TrainConfig(**{**values, **fields})


class Quiet:
    """Keeps what a training says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Spy(Training):
    """Keeps the outcomes of all steps, and changes nothing."""

    name = "spy"
    about = "looks on"
    seen: list[Outcome] = []  # one list for a test, emptied by it

    def stages(self, job: Any) -> Contributions:
        def look(outcome: Outcome, weights: Any) -> None:
            self.seen.append(outcome)

        return ports.loss_weights(look)
