"""A training that goes on is, bit for bit, the one that was never interrupted."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from sdcore_train import CheckpointError, ConfigError, DivergedError, Training

from sdcore import Options

from .common import config, pictures, run, same, weights


class Stop(Exception):
    """What a kill looks like from inside."""


def stop_after(count: int) -> Any:
    from sdcore_train.events import Updated

    def look(event: Any) -> None:
        if isinstance(event, Updated) and event.index + 1 == count:
            raise Stop

    return look


@pytest.mark.parametrize("name", ["adamw", "adafactor", "sgd"])
def test_bit_identical(tmp_path: Path, name: str) -> None:
    fields: dict[str, Any] = {
        "steps": 7,
        "accumulate": 2,
        "batch_size": 3,
        "use": [{"plugin": "full", "options": {"text_encoder": True}}, "noise-offset", "timesteps"],
        "optimizer": {"name": name},
        "schedule": {"name": "cosine", "warmup": 2},
        "ema": {"decay": 0.9},
        "checkpoints": {"every": 2},
        "captions": {"dropout": 0.3, "cache": False},
        "pictures": {"flip": True},
    }
    whole, _ = run(config(tmp_path, output=str(tmp_path / "whole"), **fields))
    cut = config(tmp_path, output=str(tmp_path / "cut"), **fields)
    with pytest.raises(Stop):
        run(cut, on_event=stop_after(5))
    again, result = run(cut, resume=True)
    assert result.steps == 7
    for a, b in zip(whole.components.values(), again.components.values(), strict=True):
        assert same(weights(a), weights(b))
    kept = [(tmp_path / part / "checkpoints" / "step-00000007") for part in ("whole", "cut")]
    for file in ("weights", "ema", "optimizer"):
        assert (kept[0] / f"{file}.safetensors").read_bytes() == (kept[1] / f"{file}.safetensors").read_bytes()


def test_loses_at_most_one_interval(tmp_path: Path) -> None:
    made = config(tmp_path, steps=9, checkpoints={"every": 3, "keep": 2})
    with pytest.raises(Stop):
        run(made, on_event=stop_after(8))
    names = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000006"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    run(config(tmp_path))
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate: 0\.001 before, 0\.002 now"):
        run(config(tmp_path, steps=4, optimizer={"learning_rate": 2e-3}), resume=True)
    with pytest.raises(ConfigError, match=r"use.*min-snr"):
        run(config(tmp_path, steps=4, use=["full", "min-snr"]), resume=True)
    _, more = run(config(tmp_path, steps=4), resume=True)  # a constant rate does not depend on the length
    assert more.steps == 4


def test_other_data_is_refused(tmp_path: Path) -> None:
    run(config(tmp_path))
    pictures(tmp_path / "data", count=9)
    with pytest.raises(ConfigError, match="the data is not what it was"):
        run(config(tmp_path, steps=4), resume=True)


def test_an_output_folder_is_not_overwritten(tmp_path: Path) -> None:
    run(config(tmp_path))
    with pytest.raises(ConfigError, match="holds a training of 2 steps"):
        run(config(tmp_path))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        run(config(tmp_path, output=str(tmp_path / "other")), resume=True)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    made = config(tmp_path, steps=6, checkpoints={"every": 2})
    real, calls = safetensors.torch.save_file, []

    def fill_up(tensors: Any, path: Any, *more: Any) -> None:
        calls.append(path)
        if len(calls) > 2:  # the second checkpoint
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, *more)

    monkeypatch.setattr(safetensors.torch, "save_file", fill_up)
    with pytest.raises(CheckpointError, match=r"disk is full; the last good checkpoint is .*step-00000002"):
        run(made)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000002"]
    _, result = run(made, resume=True)
    assert result.steps == 6


class Poison(Training):
    """Makes the loss NaN in one step."""

    name = "poison"
    Options = Options

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        return ports.loss_weights(lambda outcome, w: w * float("nan") if outcome.step.index == 3 else None)


def test_nan_stops_and_names_the_pictures(tmp_path: Path) -> None:
    made = config(tmp_path, steps=6, use=["full", "poison"], checkpoints={"every": 2})
    with pytest.raises(DivergedError, match=r"nan.* at step 3 .*\.png.*last good checkpoint is .*step-00000002"):
        run(made, plugins=[Poison])
