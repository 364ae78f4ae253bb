from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sdcore_lora import LoRAPlugin

from sdcore import Engine
from sdcore.testing.parity import Recorder
from sdcore.testing.tiny import tiny_folder

FIELDS: dict[str, Any] = {
    "prompt": "a red cat",
    "negative_prompt": "blue dog",
    "height": 32,
    "width": 32,
    "steps": 3,
    "guidance_scale": 3.0,
    "seed": 1,
    "output": "latent",
}

_engines: dict[str, Engine] = {}


def _engine(family: str) -> Engine:
    if family not in _engines:
        _engines[family] = Engine.load(tiny_folder(family), plugins=[LoRAPlugin, Recorder])
    return _engines[family]


@pytest.fixture(scope="session")
def engine_of() -> Callable[[str], Engine]:
    return _engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return _engine("sd1")


@pytest.fixture(scope="session")
def draw() -> Callable[..., torch.Tensor]:
    """Latents of a small run."""

    def run(engine: Engine, *use: Any, **fields: Any) -> torch.Tensor:
        return engine.generate(use=list(use), **{**FIELDS, **fields}).latents

    return run


@pytest.fixture(scope="session")
def fields() -> dict[str, Any]:
    return FIELDS


@pytest.fixture(scope="session")
def weights_hash() -> Callable[[Engine], str]:
    def digest(engine: Engine) -> str:
        total = hashlib.sha256()
        for name, part in engine.model.components.items():
            for key, value in part.state_dict().items():
                total.update(f"{name}.{key}".encode() + value.numpy().tobytes())
            for key, module in part.named_modules():
                assert "forward" not in vars(module), key
        return total.hexdigest()

    return digest


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., Path]:
    """A copy of a file with its keys renamed, or left out for None."""

    def change(source: Path, target: Path, rename: Callable[[str], str | None], **more: Any) -> Path:
        found = {name: value for key, value in load_file(source).items() if (name := rename(key)) is not None}
        save_file(found | more.pop("tensors", {}), target, metadata=more.pop("metadata", {"format": "pt"}))
        return target

    return change


@pytest.fixture(scope="session")
def save() -> Callable[[Path, Mapping[str, torch.Tensor]], Path]:
    def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
        return path

    return write
