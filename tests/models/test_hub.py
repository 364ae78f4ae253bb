"""The hub, without a network: which files are asked for, and what is said when it cannot be reached."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from sdcore.errors import ModelError
from sdcore.models import hub, load_model
from sdcore.testing.tiny import tiny_folder

from .original_layout import save_single_file

LISTING = [
    ".gitattributes",
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "v1-5-pruned.ckpt",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
    "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model.safetensors.index.json",
]


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)


def serve(monkeypatch: pytest.MonkeyPatch, names: list[str], top: Path) -> list[Any]:
    asked: list[Any] = []

    def model_info(self: Any, repo: str, timeout: float | None = None) -> Any:
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names])

    def snapshot(repo: str, **settings: Any) -> str:
        asked.append((repo, settings))
        return str(top)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


def test_each_weight_is_fetched_once_and_nothing_else() -> None:
    assert sorted(hub.choose_files("owner/name", LISTING)) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.json",
    ]


def test_repositories_that_will_not_do() -> None:
    with pytest.raises(ModelError, match="unet has no safetensors weights on the hub, only pickles"):
        hub.choose_files("owner/name", ["model_index.json", "unet/diffusion_pytorch_model.bin"])
    with pytest.raises(ModelError, match=r"no model_index.json, and 2 .safetensors files"):
        hub.choose_files("owner/name", ["a.safetensors", "b.safetensors"])


def test_folder_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_folder("sd1")
    asked = serve(monkeypatch, [str(path.relative_to(folder)) for path in folder.rglob("*.*")], folder)
    model = load_model("owner/name")
    assert (model.family, model.source) == ("sd1", "owner/name")
    assert asked[0][0] == "owner/name"
    assert asked[0][1]["revision"] == "abc"


def test_single_file_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny_folder("sd1")
    save_single_file(folder, "sd1", tmp_path / "only.safetensors")
    serve(monkeypatch, ["README.md", "only.safetensors"], tmp_path)
    assert load_model("owner/name", components={"tokenizer": folder / "tokenizer"}).family == "sd1"


def test_a_complete_copy_in_the_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    index = tiny_folder("sdxl") / "model_index.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(index))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("asked the hub"))
    assert load_model("owner/name").family == "sdxl"


@pytest.mark.parametrize("error", [OSError("[Errno -2] Name or service not known"), TimeoutError()])
def test_offline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    calls = []

    def model_info(*args: Any, **settings: Any) -> Any:
        calls.append(settings)
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"owner/name: no such folder here, and the hub cannot be reached"):
        load_model("owner/name")
    assert len(calls) == 1
    assert calls[0]["timeout"] <= 10
    assert time.monotonic() - start < 5


def test_what_is_a_hub_id() -> None:
    assert hub.is_hub_id("stabilityai/stable-diffusion-xl-base-1.0")
    for text in ("./owner/name", "/owner/name", "name", "a/b/c", "../name", "owner/na me", "C:\\owner/name"):
        assert not hub.is_hub_id(text)
