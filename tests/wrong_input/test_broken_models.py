"""Model folders and files that are missing or damaged, and weights that break while in use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sdcore import Engine, GenerateRequest, ModelError, SdcoreError

SMALL = {"seed": 1, "steps": 2, "height": 16, "width": 16}


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no-model.*no such folder or file") as caught:
        Engine.load(tmp_path / "no-model", plugins=())
    assert "installed" in str(caught.value)


@pytest.mark.parametrize("source", [5, b"model", ["model"]])
def test_no_source_at_all(source: Any) -> None:
    with pytest.raises(ModelError, match="source is a"):
        Engine.load(source, plugins=())


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json.*nothing in it"):
        Engine.load(tmp_path, plugins=())


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_is_missing(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(ModelError, match=part):
        Engine.load(copy, plugins=())


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"x" * 100, lambda data: b""])
def test_damaged_weights(copy: Path, damage: Callable[[bytes], bytes]) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ModelError, match="diffusion_pytorch_model"):
        Engine.load(copy, plugins=())


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_damaged_json(copy: Path, file: str) -> None:
    (copy / file).write_text("{")
    with pytest.raises(ModelError, match=Path(file).name):
        Engine.load(copy, plugins=())


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ('{"steps": 0}', "steps.*greater than or equal to 1"),
        ('{"guidance_scale": "strong"}', "guidance_scale"),
        ('{"strength": 2}', "strength"),
        ('{"scheduler": 3}', "scheduler"),
        ('{"stepz": 3}', "'stepz'.*Did you mean 'steps'"),
        ('{"prompt": "an advertisement"}', "'prompt', which a model cannot"),
        ('{"use": ["lora"]}', "'use', which a model cannot"),
    ],
)
def test_damaged_defaults(copy: Path, defaults: str, words: str) -> None:
    (copy / "sdcore.json").write_text(f'{{"defaults": {defaults}}}')
    with pytest.raises(ModelError, match=rf"model: .*sdcore\.json.*{words}"):
        Engine.load(copy, plugins=())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("output", ["image", "latent"])
def test_weights_that_become_no_numbers(
    engine: Engine, number: float, output: str, unharmed: Callable[[], None]
) -> None:
    """Damaged after loading; a damaged file is refused when it is loaded."""
    weight = engine.model.unet.conv_out.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] = number
    try:
        with pytest.raises(SdcoreError, match=r"not finite.*dtype=float32.*weights may be damaged"):
            engine.generate(GenerateRequest("a", output=output), **SMALL)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    unharmed()


def test_a_codec_that_gives_no_numbers(engine: Engine, unharmed: Callable[[], None]) -> None:
    weight = engine.model.vae.decoder.conv_out.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] = float("nan")
    try:
        with pytest.raises(SdcoreError, match=r"decoder returned NaN.*float32"):
            engine.generate("a", **SMALL)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    unharmed()
