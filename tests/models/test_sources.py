"""What plugins that bring networks of their own use: finding their files, and making modules of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors.torch import save_file

from sdcore.errors import ModelError
from sdcore.models import build_network, find_source

CONFIG: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 2,
    "conditioning_embedding_out_channels": (8, 8),
}


def make(weights: dict[str, torch.Tensor], **config: Any) -> Any:
    return build_network(
        ControlNetModel.from_config, CONFIG | config, weights, device="cpu", dtype=torch.float64, what="net.safetensors"
    )


def weights() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in ControlNetModel(**CONFIG).state_dict().items()}


def test_a_network_has_the_weights_that_it_was_given() -> None:
    given = weights()
    net = make(given)
    assert not net.training
    for key, value in net.state_dict().items():
        assert value.dtype == torch.float64
        assert not value.requires_grad
        assert torch.equal(value, given[key].double())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("conv_in.bias"), "conv_in.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra .*has no place"),
        (lambda w: w.update({"conv_in.bias": torch.zeros(3)}), r"conv_in.bias has the shape \(3,\)"),
        (lambda w: w["conv_in.bias"].fill_(float("nan")), "conv_in.bias holds NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(spoil: Any, message: str) -> None:
    given = weights()
    spoil(given)
    with pytest.raises(ModelError, match=message):
        make(given)


def test_a_configuration_of_something_else_is_named() -> None:
    with pytest.raises(ModelError, match=r"not that of a ControlNetModel"):
        make(weights(), down_block_types=("NoSuchBlock",))


def test_paths_are_found_and_what_is_neither_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "net.safetensors")
    (tmp_path / "notes.md").write_text("hello")
    assert find_source(str(tmp_path)) == tmp_path
    assert find_source(str(tmp_path / "net.safetensors")) == tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match=r"notes.md: as ControlNet a folder or a .safetensors file"):
        find_source(str(tmp_path / "notes.md"), "ControlNet")
    for missing in ("./nothing/here.safetensors", "a/b/c", "nothing.safetensors"):
        with pytest.raises(ModelError, match="no such folder or file"):
            find_source(missing)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    asked: list[Any] = []
    names = ["README.md", "config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]
    names += ["diffusion_pytorch_model.fp16.safetensors", "sub/style.safetensors"]
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "model_info",
        lambda self, repo, timeout=None: SimpleNamespace(
            sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names]
        ),
    )

    def snapshot(repo: str, **settings: Any) -> str:
        asked.append((repo, settings["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


def test_of_a_network_on_the_hub_only_what_is_needed_is_fetched(hub: list[Any], tmp_path: Path) -> None:
    assert find_source("owner/canny") == tmp_path
    assert hub == [("owner/canny", ["diffusion_pytorch_model.safetensors", "config.json"])]


def test_one_file_of_a_repository_can_be_named(hub: list[Any], tmp_path: Path) -> None:
    assert find_source("owner/loras/sub/style.safetensors") == tmp_path / "sub" / "style.safetensors"
    assert hub == [("owner/loras", ["sub/style.safetensors"])]
    with pytest.raises(ModelError, match=r"has no file other.safetensors; it has .*sub/style.safetensors"):
        find_source("owner/loras/other.safetensors")


def test_without_a_network_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        find_source("owner/canny")
