"""What is told while a training runs: the bar, event files, memory; and that none of it loads what it does not need."""

import importlib.util
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sdcore_train.monitor.bar import TrainBar
from sdcore_train.monitor.memory import estimate, optimizer_size, readable, state_size
from sdcore_train.monitor.tensorboard import EventWriter, check_tensorboard

from sdcore import RequestError

from .test_optimizers import NAMES, config, net, optimizer_of, train


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch) -> Terminal:
    """Not a fixture: what captures the output takes stderr anew for the test itself."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("COLUMNS", "160")
    return made


def test_the_bar_shows_loss_rate_speed_and_goes_on_from_the_start(monkeypatch):
    terminal = at_terminal(monkeypatch)
    with TrainBar(1000, start=400) as bar:
        assert "400/1000" in terminal.getvalue()
        bar.say("a checkpoint")
        for _ in range(3):
            bar.update(loss=0.25, rate=1e-4, pictures=8, seconds=2.0)
        bar.update(loss=float("nan"), rate=1e-4, pictures=8, seconds=2.0)
        bar.say("another")
    text = terminal.getvalue()
    assert "404/1000" in text
    assert "loss 0.25, rate 1.00e-04, 4 pictures/s" in text
    assert "a checkpoint\n" in text
    assert text.endswith("\r")  # the bar is gone
    bar.close()


def test_the_shown_loss_is_an_average(monkeypatch):
    terminal = at_terminal(monkeypatch)
    with TrainBar(10) as bar:
        bar.update(loss=1.0, rate=1e-4, pictures=1, seconds=1.0)
        bar.update(loss=2.0, rate=1e-4, pictures=1, seconds=1.0)
        bar.say("")
    assert "loss 1.1," in terminal.getvalue()


def test_quiet_and_files_have_no_bar(monkeypatch):
    terminal = at_terminal(monkeypatch)
    with TrainBar(10, quiet=True) as bar:
        bar.update(loss=1.0, rate=1e-4, pictures=1, seconds=1.0)
        bar.say("hush")
    assert terminal.getvalue() == ""
    plain, lines = io.StringIO(), []
    monkeypatch.setattr(sys, "stderr", plain)
    with TrainBar(10, out=lines.append) as bar:
        bar.update(loss=1.0, rate=1e-4, pictures=1, seconds=1.0)
        bar.say("told")
    assert plain.getvalue() == ""
    assert lines == ["told"]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_event_files_hold_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventWriter(tmp_path / "events") as writer:
        for step in (10, 20, 30):
            writer.row({"step": step, "loss": step / 8, "terms": {"mse": 0.5}, "name": "x", "rate": None, "odd": True})
        writer.picture("samples", Image.new("L", (6, 4), 9), 20)
    with EventWriter(tmp_path / "events", start=20) as writer:
        writer.row({"step": 30, "loss": 7.0})
    found = EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "terms/mse"]
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(10, 1.25), (20, 2.5), (30, 7.0)]
    (image,) = found.Images("samples")
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert np.array_equal(np.asarray(picture), np.full((4, 6, 3), 9))


def test_missing_tensorboard_is_named_with_its_install_line(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    for call in (check_tensorboard, lambda: EventWriter(tmp_path / "events")):
        with pytest.raises(RequestError, match=r'pip install "sdcore-train\[tensorboard\]"'):
            call()
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if "." not in str(name.values[0])])
def test_estimated_state_is_what_the_optimizer_holds(name):
    model = net()
    optimizer = optimizer_of(model, config(name))
    shapes = [parameter.shape for parameter in model.parameters()]
    assert optimizer_size(optimizer) == 0
    train(model, optimizer, range(1))
    # Beside it are counters, and the tables of 8-bit values, of 1 kB each.
    assert state_size(name, shapes) == pytest.approx(optimizer_size(optimizer), abs=2500)
    assert optimizer_size(optimizer) > 20_000 or name == "adafactor"


def test_estimate_adds_up():
    rows = estimate([(10, 20), (5,)], 1000, "adamw", frozen_size=2000, ema=True, peak=6877)
    assert {row.what: row.size for row in rows} == {
        "trained weights": 820,
        "frozen weights": 2000,
        "gradients": 820,
        "optimizer": 1640,
        "average": 820,
        "activations": 777,
        "together": 820 + 2000 + 820 + 1640 + 820 + 777,
    }
    assert [row.what for row in estimate([(1,)], 0, "sgd")] == ["trained weights", "gradients", "optimizer", "together"]
    unknown = estimate([(10, 20)], 0, "a.b.C")[2]
    assert (unknown.size, unknown.how) == (1600, "a.b.C is not known: as adamw")
    assert estimate([(10, 20)], 0, "adamw", state=5)[2].size == 5


def test_peak_memory_grows_with_what_is_taken():
    # In a process of its own: this one has freed memory, which would be taken again.
    code = (
        "import torch; from sdcore_train.monitor.memory import peak_memory; cpu = torch.device('cpu')\n"
        "before = peak_memory(cpu); torch.ones(200_000_000, dtype=torch.uint8); print(peak_memory(cpu) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 150_000_000 < int(done.stdout) < 300_000_000


@pytest.mark.parametrize(
    ("size", "expected"),
    [(512, "512 B"), (1500, "1.5 kB"), (23_400_000, "23.4 MB"), (9_920_000_000, "9.92 GB"), (10**13, "10,000 GB")],
)
def test_sizes_are_readable(size, expected):
    assert readable(size) == expected


def test_drawing_and_checking_load_no_torch():
    code = """
import sys
import sdcore_train.losses, sdcore_train.monitor
import sdcore_train.monitor.bar, sdcore_train.monitor.curve, sdcore_train.monitor.log, sdcore_train.monitor.memory
import sdcore_train.monitor.report, sdcore_train.monitor.samples, sdcore_train.monitor.tensorboard
import sdcore_train.optim.optimizers, sdcore_train.optim.schedules, sdcore_train.optim.state
heavy = {"torch", "diffusers", "transformers", "peft", "accelerate", "matplotlib", "tensorboard"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
