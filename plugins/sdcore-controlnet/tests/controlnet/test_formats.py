"""Files in every layout give the same results as the folder with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sdcore_controlnet import ControlNet
from sdcore_controlnet.describe import describe
from sdcore_controlnet.layouts import original_adapter_keys, original_controlnet_keys

from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

from .kit import engine_for, picture

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL: dict[str, Any] = {
    "prompt": "a red cat", "seed": 5, "steps": 2, "height": 32, "width": 32, "scheduler": "ddim", "output": "latent",
}  # fmt: skip


def _latents(family: str, model: Any, **options: Any) -> torch.Tensor:
    use = [ControlNet(model=model, image=picture(11), **options)]
    result: torch.Tensor = engine_for(family).generate(**SMALL, use=use).latents
    return result


def _original_names(layers: int = 1) -> dict[str, str]:
    """Stems of a tiny ControlNet in diffusers layout to the original one, written down by hand: one layer a level."""
    names = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0", "controlnet_mid_block": "middle_block_out.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": "input_hint_block.10",
    }  # fmt: skip
    for place in range(4):
        names[f"controlnet_cond_embedding.blocks.{place}"] = f"input_hint_block.{2 + 2 * place}"
    for place in range(6):
        names[f"controlnet_down_blocks.{place}"] = f"zero_convs.{place}.0"
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
        "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    for level, block in enumerate((1, 3, 5)):
        for mine, theirs in resnet.items():
            names[f"down_blocks.{level}.resnets.0.{mine}"] = f"input_blocks.{block}.0.{theirs}"
        names[f"down_blocks.{level}.attentions.0"] = f"input_blocks.{block}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{block + 1}.0.op"
    for place, block in ((0, 0), (1, 2)):
        for mine, theirs in resnet.items():
            names[f"mid_block.resnets.{place}.{mine}"] = f"middle_block.{block}.{theirs}"
    names["mid_block.attentions.0"] = "middle_block.1"
    return names


def _to_original(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    names = _original_names()
    found = {}
    for key, value in weights.items():
        stem = max((name for name in names if key.startswith(name + ".")), key=len)
        found[prefix + names[stem] + key[len(stem) :]] = value
    return found


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_a_controlnet_in_the_original_layout(family: str, prefix: str, tmp_path: Path) -> None:
    folder = tiny_controlnet(family, 1)
    weights = _to_original(load_file(folder / WEIGHTS), prefix)
    if prefix:
        weights["model.diffusion_model.out.0.weight"] = torch.zeros(4)  # first releases held the whole model
    save_file(weights, tmp_path / "net.safetensors")
    assert torch.equal(_latents(family, tmp_path / "net.safetensors"), _latents(family, folder))


def test_the_names_are_those_that_diffusers_converts_to() -> None:
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    folder = tiny_controlnet("sd1", 1)
    weights = load_file(folder / WEIGHTS)
    original = _to_original(weights, "control_model.")
    theirs = convert_controlnet_checkpoint(dict(original), {"layers_per_block": 1})
    mine = original_controlnet_keys(original)
    for key in theirs.keys() & weights.keys() - {"controlnet_cond_embedding.conv_out.weight"}:
        if theirs[key] is not None and "cond_embedding" not in key:
            (name,) = [old for old, new in mine.items() if new == key]
            assert torch.equal(theirs[key], original[name]), key


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_single_file_in_the_layout_of_diffusers(family: str) -> None:
    for folder in (tiny_controlnet(family, 1), tiny_t2i_adapter(family, 1)):
        assert torch.equal(_latents(family, folder / WEIGHTS), _latents(family, folder))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_adapter_in_the_original_layout(family: str, tmp_path: Path) -> None:
    folder = tiny_t2i_adapter(family, 1, num_res_blocks=2)
    original = {}
    for key, value in load_file(folder / WEIGHTS).items():
        parts = key.removeprefix("adapter.").split(".")
        if parts[0] == "body":
            block = int(parts[1]) * 2
            if parts[2] == "in_conv":
                parts = ["body", str(block), "in_conv", *parts[3:]]
            else:
                parts = ["body", str(block + int(parts[3])), *parts[4:]]
        original[".".join(parts)] = value
    save_file(original, tmp_path / "adapter.safetensors")
    assert torch.equal(_latents(family, tmp_path / "adapter.safetensors"), _latents(family, folder))


def test_a_light_adapter(tmp_path: Path) -> None:
    folder = tiny_t2i_adapter("sd1", 1)
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: Any = diffusers.T2IAdapter(
            adapter_type="light_adapter", channels=[32, 64], num_res_blocks=2, downscale_factor=4
        )
    module.save_pretrained(tmp_path / "light")
    weights = load_file(tmp_path / "light" / WEIGHTS)
    original = {key.removeprefix("adapter.").replace(".resnets.", ".body."): value for key, value in weights.items()}
    assert set(original_adapter_keys(original).values()) == set(weights)
    save_file(original, tmp_path / "light.safetensors")
    made = _latents("sd1", tmp_path / "light.safetensors")
    assert torch.equal(made, _latents("sd1", tmp_path / "light"))
    assert not torch.equal(made, _latents("sd1", folder))


def test_pickles_only_where_they_are_allowed(tmp_path: Path) -> None:
    folder = tiny_controlnet("sd1", 1)
    torch.save(load_file(folder / WEIGHTS), tmp_path / "net.pth")
    with pytest.raises(Exception, match="pickle"):
        _latents("sd1", tmp_path / "net.pth")
    assert torch.equal(_latents("sd1", tmp_path / "net.pth", allow_pickle=True), _latents("sd1", folder))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_configurations_are_read_from_shapes(family: str) -> None:
    unet = engine_for(family).model.unet.config
    for folder in (tiny_controlnet(family), tiny_t2i_adapter(family)):
        stated, read = describe(folder, unet, 4), describe(folder / WEIGHTS, unet, 4)
        assert read.kind == stated.kind
        for key, value in read.config.items():
            wanted = stated.config.get(key, value)
            if key != "transformer_layers_per_block":
                assert list(value) == list(wanted) if isinstance(value, list | tuple) else value == wanted, key
