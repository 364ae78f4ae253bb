"""What a training writes replaces nothing that no training wrote, and lends no rounded weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sdcore_train import ConfigError, dry_run, save_model
from sdcore_train.data import Data

from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .common import config, run, same, weights


@pytest.mark.parametrize("use", ["full", "vae"])
def test_what_no_training_wrote_stays(tmp_path: Path, use: str) -> None:
    mine = tmp_path / "out" / "model" / "letter.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("dear", encoding="utf-8")
    made = config(tmp_path, use=[use])
    for start in (run, lambda made: dry_run(made, say=lambda _: None)):
        with pytest.raises(ConfigError, match=r"model is in the way, and no training wrote it"):
            start(made)
    assert mine.read_text(encoding="utf-8") == "dear"


def test_the_model_that_is_trained_is_not_replaced(tmp_path: Path) -> None:
    run(config(tmp_path))
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    run(config(tmp_path))  # what an earlier training wrote is
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    with pytest.raises(ConfigError, match="is the model that would be trained"):
        run(config(tmp_path, model=str(tmp_path / "out" / "model")))


def test_a_lent_model_gets_its_types_back(tmp_path: Path) -> None:
    model = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float16")
    before = {name: weights(module) for name, module in model.components.items()}
    run(config(tmp_path, gradient_checkpointing=True), model=model)
    for name in ("vae", "text_encoder"):
        assert same(weights(model.components[name]), before[name])
    assert not same(weights(model.unet), before["unet"])
    assert not model.unet.is_gradient_checkpointing


def test_rounded_weights_are_stored_as_they_were(tmp_path: Path) -> None:
    import torch

    model = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float32")
    name, weight = next(iter(model.text_encoders[0].named_parameters()))
    exact = weight.detach().clone()
    weight.data = weight.data.to(torch.bfloat16)
    save_model(model, tmp_path / "model", dtype=torch.float32, before={f"text_encoder/{name}": exact})
    again = load_model(tmp_path / "model", device="cpu", dtype="float32")
    assert torch.equal(dict(again.text_encoders[0].named_parameters())[name], exact)


def test_a_trained_model_is_known_by_its_weights(tmp_path: Path) -> None:
    model = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float32")
    before = model.hashes()
    dry_run(config(tmp_path), model=model, say=lambda _: None)
    assert model.hashes() == before
    run(config(tmp_path), model=model)
    assert {name for name, value in model.hashes().items() if value != before[name]} == {"unet"}


def test_a_dry_run_sees_the_data_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(tmp_path, output=str(tmp_path / "data" / "out"))
    shutil.copytree(tmp_path / "data", tmp_path / "data" / "out" / "samples")  # without captions of their own
    (tmp_path / "data" / "out" / "samples" / "metadata.jsonl").unlink()
    assert dry_run(made, say=lambda _: None).pictures == 8
    assert len(Data(made, size=(32, 32), multiple=8).records) == 8
