from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdcore.errors import ModelError
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .original_layout import original_state


class Evil:
    """Unpickling it would make a folder."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("name", ["model.ckpt", "model.bin", "model.pt"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_single_file(name: str, zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    folder, file = tiny_folder("sd1"), tmp_path / name
    state: dict[str, Any] = original_state(folder, "sd1")
    if wrapped:
        state = {"state_dict": state, "epoch": 3, "global_step": 875000}
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"a pickle, which can run code.*allow_pickle=True"):
        load_model(file)
    model = load_model(file, allow_pickle=True, components={"tokenizer": folder / "tokenizer"})
    expected = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.unet.state_dict().items())


def test_folder(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("sd1"), tmp_path / "model"))
    for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        file = folder / f"{name}.safetensors"
        weights = load_file(file)
        torch.save(weights, file.with_name("pytorch_model.bin" if "text" in name else f"{file.stem}.bin"))
        file.unlink()
    with pytest.raises(ModelError, match=r"weights are a pickle.*allow_pickle=True"):
        load_model(folder)
    assert load_model(folder, allow_pickle=True).family == "sd1"


def test_code_is_not_run_even_if_pickles_are_allowed(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    for file, kind in ((tmp_path / "a.ckpt", True), (tmp_path / "b.ckpt", False)):
        torch.save({"state_dict": {}, "callback": Evil(str(target))}, file, _use_new_zipfile_serialization=kind)
        with pytest.raises(ModelError, match="holds more than tensors"):
            load_model(file, allow_pickle=True)
    (tmp_path / "c.ckpt").write_bytes(pickle.dumps(Evil(str(target)), protocol=2))
    with pytest.raises(ModelError):
        load_model(tmp_path / "c.ckpt", allow_pickle=True)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"<html></html>", "a web page"), (b"PK\x03\x04abc", "truncated|not a checkpoint")],
)
def test_damaged(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_model(file, allow_pickle=True)
