"""The training part of the recipe: its configurations."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sdcore_train")

from sdcore_train import TrainConfig

RECIPE = Path(__file__).parent.parent / "recipe"


@pytest.mark.parametrize("path", sorted(RECIPE.glob("*.toml")), ids=lambda path: path.stem)
def test_configurations_are_complete(path: Path) -> None:
    config = TrainConfig(**tomllib.loads(path.read_text(encoding="utf-8")))
    assert config.checkpoints.every
    assert {use.plugin for use in config.use} <= {"vae", "warm-text", "full", "timesteps"}  # type: ignore[union-attr]
