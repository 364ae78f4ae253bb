"""What cannot be trained is said before any work."""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sdcore_lora import TrainLoRA
from sdcore_train import ConfigError

from sdcore import OutputError
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora

from .kit import Watch, config, run, same, weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "greater than or equal to 1"),
        ({"alpha": 0}, "greater than 0"),
        ({"dropout": 1}, "less than 1"),
        ({"targets": "("}, "neither attention, .* nor a regular expression"),
        ({"targets": ""}, "targets is empty"),
        ({"unet": False}, "neither unet nor text_encoder"),
        ({"file": "../lora"}, "a name without folders"),
        ({"text_encoder_rank": 4}, "text_encoder is false"),
        ({"init": "pissa", "resume_from": "a.safetensors"}, "leave one of them out"),
        ({"ranks": 4}, "has no option 'ranks'.*rank"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainLoRA(**options)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("sd1", {"targets": "atention"}, r"targets 'atention' match no layer of unet.*unet\.\w+"),
        ("sd1", {"targets": "unet.*to_q", "text_encoder": True}, r"match no layer of text_encoder.*text_encoder\.\w+"),
        ("sd1", {"conv_rank": 4}, "conv_rank .* has no convolution larger than 1x1; use linear"),
        ("refiner", {"text_encoder": True}, "the SDXL refiner shares its text encoder"),
    ],
)
def test_a_model_that_does_not_have_it(family: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    _refused(config(tmp_path, family, TrainLoRA(**options)), message, tmp_path)


def test_beside_a_training_of_the_model_itself(tmp_path: Path) -> None:
    _refused(config(tmp_path, use=["full", "lora"]), "lora: 'full' trains the model itself", tmp_path)
    assert not (tmp_path / "out" / "model").exists()


def test_twice(tmp_path: Path) -> None:
    _refused(config(tmp_path, use=["lora", "lora"]), "in use twice", tmp_path)


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ({"rank": 8}, {"rank": 4}, r"has rank 8 in \w+\.\S+, and rank 4 is asked for; set rank"),
        ({"model": "sd2"}, {}, r"resume_from: .* does not fit this model|is for"),
        ({"algorithm": "loha"}, {}, "holds loha; training goes on from LoRA"),
        ({"algorithm": "dora"}, {}, "is a DoRA; set dora = true"),
        ({"targets": ["convolutions"]}, {}, "changes layers that are not to be trained: unet"),
        ({"targets": ["text"]}, {}, r"not to be trained: text_encoder\."),
    ],
)
def test_a_file_to_go_on_from(made: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tiny_lora(tmp_path / "a.safetensors", **{"targets": ["attention"], "rank": 4, **made})
    lora = TrainLoRA(**{"rank": 4, "targets": "attention", "resume_from": str(path), **options})
    _refused(config(tmp_path, "sd1", lora), message, tmp_path)


def test_no_file_to_go_on_from(tmp_path: Path) -> None:
    lora = TrainLoRA(resume_from=str(tmp_path / "none.safetensors"))
    _refused(config(tmp_path, lora=lora), "resume_from: .*none.safetensors", tmp_path)
    (tmp_path / "half.safetensors").write_bytes(b"x")
    lora = TrainLoRA(resume_from=str(tmp_path / "half.safetensors"))
    _refused(config(tmp_path, lora=lora), "resume_from: .*half.safetensors", tmp_path)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out" / "lora-peft").mkdir(parents=True)
    (tmp_path / "out" / "lora-peft" / "letter.txt").write_text("dear")
    _refused(config(tmp_path, lora=TrainLoRA(layout="peft")), "lora-peft is in the way", tmp_path)


def test_adapters_in_the_model(tmp_path: Path) -> None:
    from peft import LoraConfig

    model = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float32")
    unet: Any = model.unet
    unet.add_adapter(LoraConfig(target_modules=["to_q"]))
    with pytest.raises(ConfigError, match="already carries adapters"):
        run(config(tmp_path), model=model)


def test_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "peft" else real(name, *more))
    _refused(config(tmp_path), r"needs peft.*pip install 'sdcore-lora\[train\]'", tmp_path)


class Broken(Exception):
    """Something that goes wrong in the middle."""


def test_an_error_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    lora = TrainLoRA(init="pissa", text_encoder=True)
    model = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float32")
    before = weights(model)

    class Break(Watch):
        def __call__(self, event: Any) -> None:
            super().__call__(event)
            if self.losses:
                assert not same(weights(model), before)
                raise Broken

    with pytest.raises(Broken):
        run(config(tmp_path, lora=lora), model=model, watch=Break())
    assert same(weights(model), before)
    assert not (tmp_path / "out" / "lora.safetensors").exists()


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lora.safetensors").write_bytes(b"from before")
    (tmp_path / "out" / "log.jsonl").touch()  # of the training that wrote it
    real = safetensors.torch.save_file

    def full(tensors: Any, path: Path, **more: Any) -> None:
        if ".sdcore-" not in str(path):  # checkpoints
            return real(tensors, path, **more)
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        run(config(tmp_path))
    assert (tmp_path / "out" / "lora.safetensors").read_bytes() == b"from before"
    assert not list((tmp_path / "out").glob(".sdcore*"))


def _refused(made: Any, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(made)
    assert not list(folder.glob("out/*.safetensors"))
    assert not (folder / "out" / "checkpoints").exists()
