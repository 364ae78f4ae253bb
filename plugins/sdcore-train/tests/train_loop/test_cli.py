"""The command: a file, flags over it, the dry run, and what is said when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sdcore_train import TrainConfig

from sdcore.cli import main
from sdcore.testing.tiny import tiny_folder

from .common import pictures


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pictures(tmp_path / "data")
    path = tmp_path / "training.toml"
    path.write_text(
        f"""
model = "{tiny_folder("sd1")}"
output = "{tmp_path / "out"}"
steps = 2
batch_size = 4
device = "cpu"

[[data]]
path = "{tmp_path / "data"}"

[[use]]
plugin = "full"
options = {{ layers = "attention", dtype = "float32" }}

[pictures]
height = 32
buckets = false
prefetch = 0
""",
        encoding="utf-8",
    )
    return path


def written(folder: Path) -> TrainConfig:
    """The configuration that a training was carried out with."""
    import json

    (checkpoint,) = (folder / "checkpoints").iterdir()
    return TrainConfig(**json.loads((checkpoint / "training.json").read_text())["config"])


def test_flags_go_over_the_file(tmp_path: Path, file: Path, capsys: Any) -> None:
    flags = ["--steps", "3", "--optimizer.learning-rate", "2e-4", "--use", "min-snr:gamma=3", "--text-encoder"]
    assert main(["train", "full", "--config", str(file), *flags, "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "model")
    made = written(tmp_path / "out")
    assert (made.steps, made.batch_size, made.optimizer.learning_rate) == (3, 4, 2e-4)
    full, min_snr = made.use
    assert full.options == {"layers": "attention", "dtype": "float32", "text_encoder": True}
    assert (min_snr.plugin, min_snr.options) == ("min-snr", {"gamma": 3})
    for name in ("report.html", "loss.png", "log.jsonl"):
        assert (tmp_path / "out" / name).stat().st_size > 0

    # The same command again is refused, and goes on with --resume.
    assert main(["train", "full", "--config", str(file), *flags, "--quiet"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "full", "--config", str(file), *flags[2:], "--steps", "4", "--resume", "--quiet"]) == 0


def test_the_method_may_be_in_the_file_as_text(tmp_path: Path, file: Path, capsys: Any) -> None:
    text = file.read_text(encoding="utf-8")
    mine = text[text.index("[[use]]") : text.index("[pictures]")]
    file.write_text('use = ["full:layers=attention", "min-snr:gamma=3"]\n' + text.replace(mine, ""), encoding="utf-8")
    assert main(["train", "full", "--config", str(file), "--dtype", "float32", "--quiet"]) == 0
    full, min_snr = written(tmp_path / "out").use
    assert (full.plugin, full.options) == ("full", {"layers": "attention", "dtype": "float32"})
    assert (min_snr.plugin, min_snr.options) == ("min-snr", {"gamma": 3})


def test_text_stays_text(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--output", "20241224", "--captions.prefix", "12", "--samples.request", '{"steps": 1}']
    prompts = ["--samples.prompts", "a cat", "--samples.prompts", "7"]
    assert main(["train", "full", "--config", str(file), *flags, *prompts, "--quiet"]) == 0
    made = written(tmp_path / "20241224")
    assert (made.captions.prefix, made.samples.prompts) == ("12", ("a cat", "7"))


def test_dry_run_keeps_nothing(tmp_path: Path, file: Path, capsys: Any) -> None:
    assert main(["train", "full", "--config", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "loss of the first step" in said
    assert "optimizer" in said
    assert not (tmp_path / "out").exists()


def test_sources_as_flags(tmp_path: Path, file: Path, capsys: Any) -> None:
    data = tmp_path / "data"
    both = ["--data", str(data), "--data", f"path={data},repeats=3,weight=0.5"]
    assert main(["train", "full", "--config", str(file), *both, "--quiet"]) == 0
    first, second = written(tmp_path / "out").data
    assert (first.repeats, second.repeats, second.weight) == (1, 3, 0.5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--steps", "none"], "steps"),
        (["--data", "nowhere"], "nowhere"),
        (["--use", "min-snar"], "Did you mean 'min-snr'"),
        (["--optimizer.name", "adamv"], "Did you mean 'adamw'"),
        (["--batch-size", "100"], "8 pictures"),
        (["--layers", "some"], "layers"),
        (["--epochs", "2"], "give one of them"),
        (["--model", "nowhere"], "nowhere"),
        (["--pictures.height", "30"], "30"),
        (["--device", "cuda"], "CUDA"),
        (["--learning-rate", "1e-3"], "Did you mean '--optimizer.learning-rate'"),
        (["--step", "3"], "Did you mean '--steps'"),
        (["--data", "path=x,caption=a robot, white"], "put what has a comma in double quotes"),
    ],
)
def test_wrong_flags(tmp_path: Path, file: Path, capsys: Any, flags: list[str], says: str) -> None:
    assert main(["train", "full", "--config", str(file), *flags]) in (1, 2)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_wrong_files(tmp_path: Path, capsys: Any) -> None:
    assert main(["train", "full", "--config", str(tmp_path / "no.toml")]) == 2
    assert "no.toml" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text("steps = ", encoding="utf-8")
    assert main(["train", "full", "--config", str(tmp_path / "bad.toml")]) == 2
    assert "not a TOML file" in capsys.readouterr().err
    (tmp_path / "typo.toml").write_text("stepps = 3", encoding="utf-8")
    assert main(["train", "full", "--config", str(tmp_path / "typo.toml")]) == 2
    assert "Did you mean 'steps'" in capsys.readouterr().err


def test_list(capsys: Any) -> None:
    assert main(["train", "list"]) == 0
    said = capsys.readouterr().out
    assert "full: train the U-Net" in said
    assert "gamma (number, default 5.0)" in said
