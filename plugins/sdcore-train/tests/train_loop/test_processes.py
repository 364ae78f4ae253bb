"""Two processes train one model: both end with the same weights, which are not those of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sdcore_train import TrainConfig

from .common import config

SCRIPT = """
import atexit, hashlib, sys
import torch
atexit.register(lambda: print("LEFT", not torch.distributed.is_initialized()))  # after all that comes later
from pathlib import Path
from typing import Any
from sdcore.models import load_model
from sdcore_train import TrainConfig, train
made = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
model = load_model(made.model, device="cpu", dtype="float32")
result = train(made, model=model, resume="--resume" in sys.argv, say=lambda _: None, progress=False)
digest = hashlib.sha256()
from sdcore_train.sharding import whole
for name, value in sorted(model.unet.state_dict().items()):
    value = whole(value)
    digest.update(value.numpy().tobytes())
print("RESULT", result.steps, digest.hexdigest())
"""


def launch(folder: Path, made: TrainConfig, processes: int, *more: str) -> list[str]:
    """What each process ends with."""
    script, file = folder / "script.py", folder / "config.json"
    script.write_text(SCRIPT, encoding="utf-8")
    file.write_text(made.model_dump_json(), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []
    for rank in range(processes):
        place = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }
        environment = os.environ | (place if processes > 1 else {})
        command = [sys.executable, str(script), str(file), *more]
        running.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [process.communicate(timeout=240)[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
        assert "LEFT True" in output
    return [next(line for line in output.splitlines() if line.startswith("RESULT")) for output in outputs]


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    fields = {"batch_size": 2, "steps": 3, "accumulate": 2, "use": [{"plugin": "full", "options": {}}]}
    both = launch(tmp_path, config(tmp_path, output=str(tmp_path / "two"), **fields), 2)
    assert both[0] == both[1]
    assert (tmp_path / "two" / "model" / "unet" / "config.json").exists()
    (one,) = launch(tmp_path, config(tmp_path, output=str(tmp_path / "one"), **fields), 1)
    assert one != both[0]
    # Going on with another number of processes would be another training.
    more = config(tmp_path, output=str(tmp_path / "two"), **{**fields, "steps": 5})
    with pytest.raises(AssertionError, match="2 processes, and this one has 1"):
        launch(tmp_path, more, 1, "--resume")
    again = launch(tmp_path, more, 2, "--resume")
    assert again[0] == again[1]


@pytest.mark.slow
def test_text_encoders_in_two_processes(tmp_path: Path) -> None:
    """SDXL takes the last state but one of its first text encoder: the last layer never has a gradient."""
    use = [{"plugin": "full", "options": {"unet": False, "text_encoder": True}}]
    made = config(tmp_path, "sdxl", batch_size=2, steps=3, accumulate=2, use=use)
    a, b = launch(tmp_path, made, 2)
    assert a == b
    weights = load_file(tmp_path / "out" / "checkpoints" / "step-00000003" / "weights.safetensors")
    assert any(name.startswith("text_encoder_2/") for name in weights)


@pytest.mark.slow
def test_shards(tmp_path: Path) -> None:
    # Gradient descent: Adam makes whole steps of gradients that are rounding.
    optimizer = {"name": "sgd", "learning_rate": 0.1}
    fields: dict[str, Any] = {
        "batch_size": 2,
        "steps": 3,
        "accumulate": 2,
        "ema": {"decay": 0.5},
        "checkpoints": {"every": 2},
    }
    fields["optimizer"] = optimizer
    whole = launch(tmp_path, config(tmp_path, output=str(tmp_path / "ddp"), **fields), 2)
    shards = launch(tmp_path, config(tmp_path, output=str(tmp_path / "fsdp"), distributed="fsdp", **fields), 2)
    assert shards[0] == shards[1]
    for step in ("step-00000002", "step-00000003"):
        for file in ("weights", "ema", "optimizer"):
            a, b = (
                load_file(tmp_path / part / "checkpoints" / step / f"{file}.safetensors") for part in ("ddp", "fsdp")
            )
            assert a.keys() == b.keys()
            worst = max(float((a[name] - b[name]).abs().max()) for name in a)
            # A momentum is a sum of gradients, which rounding of every layer went into: it differs by that of its size.
            size = max(float(value.abs().max()) for value in a.values())
            assert worst < (1e-5 * size if file == "optimizer" else 1e-6), (step, file, worst, size)
    assert whole[0]
    more = config(tmp_path, output=str(tmp_path / "fsdp"), distributed="fsdp", **{**fields, "steps": 4})
    again = launch(tmp_path, more, 2, "--resume")
    assert again[0] == again[1] != shards[0]
    from sdcore.models import load_model

    assert load_model(tmp_path / "fsdp" / "model", device="cpu", dtype="float32").family == "sd1"
