"""What is wrong is said before the model is loaded: devices, samples, what is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from sdcore_train import ConfigError

from sdcore import RequestError

from .common import config, run


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("work was done")

    monkeypatch.setattr("sdcore_train.prepare.Job", refuse)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("gpu", "known are cpu, cuda"),
        ("cpu:1", "known are cpu, cuda"),
        ("cuda:first", "known are cpu, cuda"),
        ("cuda:7", "no CUDA device"),
        ("xpu", "accelerate takes cpu"),
    ],
)
def test_devices(tmp_path: Path, device: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(config(tmp_path, device=device))


def test_samples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples\.request: .*guidance"):
        run(config(tmp_path, samples={"prompts": ["a cat"], "request": {"guidance": 7}}))


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else real(name, *a))
    with pytest.raises(RequestError, match="tensorboard, which is not installed"):
        run(config(tmp_path, logging={"tensorboard": True}))
