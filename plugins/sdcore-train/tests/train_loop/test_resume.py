"""A training that goes on is, bit for bit, the one that was never interrupted."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from sdcore_train import CheckpointError, ConfigError, DivergedError, Training, train

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


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("work was done")


def test_it_is_refused_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config(tmp_path))
    monkeypatch.setattr("sdcore_train.trainer.load_job", refuse)
    with pytest.raises(ConfigError, match="seed: 0 before, 1 now"):
        run(config(tmp_path, seed=1), resume=True)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        run(config(tmp_path, output=str(tmp_path / "other")), resume=True)
    (tmp_path / "out" / "checkpoints" / "step-00000002" / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(config(tmp_path), resume=True)


def test_other_scores_and_masks_are_refused(tmp_path: Path) -> None:
    import json

    from PIL import Image

    data = pictures(tmp_path / "data")
    for number in range(8):
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (32, 32), 200).save(tmp_path / "masks" / f"{number}.png")
    source = [{"path": str(data), "masks": str(tmp_path / "masks")}]
    run(config(tmp_path, data=source))
    lines = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    (data / "metadata.jsonl").write_text("".join(json.dumps({**line, "score": 1.0}) + "\n" for line in lines))
    with pytest.raises(ConfigError, match=r"other scores\."):
        run(config(tmp_path, data=source, steps=4), resume=True)
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, result = run(config(tmp_path, data=source, steps=4), resume=True)
    assert result.steps == 4
    Image.linear_gradient("L").resize((32, 32)).save(tmp_path / "masks" / "0.png")
    with pytest.raises(ConfigError, match=r"other files\."):
        run(config(tmp_path, data=source, steps=6), resume=True)


def test_another_model_is_refused(tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from sdcore.testing.tiny import tiny_folder

    folder = Path(shutil.copytree(tiny_folder("sd1"), tmp_path / "base"))
    run(config(tmp_path, model=str(folder)))
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    tensors = load_file(file)
    save_file({name: value * 1.01 for name, value in tensors.items()}, file, {"format": "pt"})
    with pytest.raises(ConfigError, match="the model is not the one"):
        run(config(tmp_path, model=str(folder), steps=4), resume=True)


def test_nothing_more_to_do(tmp_path: Path) -> None:
    _, first = run(config(tmp_path, logging={"every": 1}))
    _, again = run(config(tmp_path, logging={"every": 1}), resume=True)
    assert again.steps == 2
    assert 0 < again.loss == pytest.approx(first.loss, rel=0.5)


KILLED = """
import os, signal, sys
from pathlib import Path
from sdcore_train import TrainConfig, train
from sdcore_train.events import Updated
made = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
def look(event):
    if isinstance(event, Updated) and event.index == 4:
        os.kill(os.getpid(), signal.SIGKILL)
train(made, on_event=look, progress=False)
"""


def test_a_killed_process_loses_one_interval(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    made = config(tmp_path, steps=6, checkpoints={"every": 2}, use=[{"plugin": "full", "options": {}}])
    (tmp_path / "config.json").write_text(made.model_dump_json(), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "config.json")], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    folder = tmp_path / "out" / "checkpoints"
    assert max(path.name for path in folder.glob("step-*")) == "step-00000004"
    (folder / ".step-00000005.tmp").mkdir()  # as if it had been writing
    model, result = run(made, resume=True)
    assert result.steps == 6
    assert not list(folder.glob(".*"))
    whole, _ = run(config(tmp_path, steps=6, output=str(tmp_path / "whole")))
    assert same(weights(model.unet), weights(whole.unet))


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    import os
    import signal

    from sdcore_train.events import Updated

    said: list[str] = []

    def press(event: Any) -> None:
        if isinstance(event, Updated) and event.index == 2:
            os.kill(os.getpid(), signal.SIGINT)

    made = config(tmp_path, steps=5)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(made, on_event=press, say=said.append)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped after 3 of 5 steps; --resume goes on from here" in said
    model, result = run(made, resume=True)
    assert result.steps == 5
    whole, _ = run(config(tmp_path, steps=5, output=str(tmp_path / "whole")))
    assert same(weights(model.unet), weights(whole.unet))
