from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import load_file, save_file

from sdcore.errors import ModelError
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder, tiny_tokenizer

from .original_layout import original_vae, save_single_file


@pytest.fixture
def tiny_vae(tmp_path: Path) -> Path:
    settings = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    vae = AutoencoderTiny(
        **settings, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), upsampling_scaling_factor=2
    )
    vae.save_pretrained(tmp_path / "taesd")
    return tmp_path / "taesd"


def test_tiny_autoencoder_by_folder(tiny_vae: Path) -> None:
    model = load_model(tiny_folder("sd1"), components={"vae": tiny_vae})
    theirs = AutoencoderTiny.from_pretrained(tiny_vae).eval()
    latent = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(model.vae.decode(latent).sample, theirs.decode(latent).sample)
        # The factor is what the codec does, not what its name says.
        assert latent.shape[-1] * model.vae_scale_factor == model.vae.decode(latent).sample.shape[-1]
    assert (model.latent_channels, model.task) == (4, "text")
    assert len(model.hashes()["vae"]) == 64


def test_modules_and_objects_are_used_as_they_are() -> None:
    other = load_model(tiny_folder("sd1", seed=5))
    tokenizer, config = tiny_tokenizer(16), {"_class_name": "DDIMScheduler", "num_train_timesteps": 500}
    model = load_model(
        tiny_folder("sd1"),
        components={
            "unet": other.unet,
            "vae": other.vae,
            "text_encoder": other.text_encoders[0],
            "tokenizer": tokenizer,
            "scheduler": config,
        },
    )
    assert model.unet is other.unet
    assert model.vae is other.vae
    assert model.text_encoders == other.text_encoders
    assert model.tokenizers == (tokenizer,)
    assert model.scheduler_config == {**config, "steps_offset": 1}  # as diffusers' pipelines of SD1 have it
    assert model.scheduler_config is not config
    assert model.weight_files == {}


def test_folders() -> None:
    other = tiny_folder("sdxl", seed=5)
    names = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    model = load_model(tiny_folder("sdxl"), components={name: other / name for name in names})
    expected = load_model(other)
    assert model.hashes() == expected.hashes()
    assert model.hashes() != load_model(tiny_folder("sdxl")).hashes()
    for name, part in expected.components.items():
        mine = model.components[name].state_dict()
        assert all(torch.equal(mine[key], tensor) for key, tensor in part.state_dict().items())


@pytest.mark.parametrize("layout", ["original", "prefixed", "diffusers"])
@pytest.mark.parametrize(("family", "scale"), [("sd1", 0.18215), ("sdxl", 0.13025)])
def test_vae_in_one_file(layout: str, family: str, scale: float, tmp_path: Path) -> None:
    other = tiny_folder(family, seed=5)
    weights = load_file(other / "vae" / "diffusion_pytorch_model.safetensors")
    state = weights if layout == "diffusers" else original_vae(weights)
    prefix = "first_stage_model." if layout == "prefixed" else ""
    file = tmp_path / "vae.safetensors"
    save_file({prefix + key: tensor for key, tensor in state.items()}, file)
    model = load_model(tiny_folder(family), components={"vae": file})
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.vae.state_dict().items())
    assert model.vae.config.scaling_factor == scale
    assert model.weight_files["vae"] == (file,)


def test_vae_and_unet_from_a_checkpoint(tmp_path: Path) -> None:
    file = save_single_file(tiny_folder("sd1", seed=5), "sd1", tmp_path / "model.safetensors")
    model = load_model(tiny_folder("sd1"), components={"vae": file, "unet": file})
    expected = load_model(tiny_folder("sd1", seed=5))
    for name in ("vae", "unet"):
        mine = model.components[name].state_dict()
        assert all(torch.equal(mine[key], t) for key, t in expected.components[name].state_dict().items())


def test_checkpoint_without_some_components(tmp_path: Path) -> None:
    """A U-Net alone in the original layout, with all else from a folder."""
    folder = tiny_folder("sdxl")
    drop = ("first_stage_model.", "conditioner.")
    file = save_single_file(folder, "sdxl", tmp_path / "model.safetensors", drop=drop)
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    model = load_model(file, components={name: folder / name for name in names})
    assert model.family == "sdxl"
    assert model.hashes()["vae"] == load_model(folder).hashes()["vae"]


def test_the_vae_attention_of_old_files(tmp_path: Path) -> None:
    """Folders from before diffusers 0.16 call the layers query, key, value and proj_attn."""
    folder = tiny_folder("sd1")
    weights = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, tensor in weights.items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        renamed[key] = tensor
    assert renamed.keys() != weights.keys()
    (tmp_path / "vae").mkdir()
    save_file(renamed, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    config = json.loads((folder / "vae" / "config.json").read_text())
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    model = load_model(folder, components={"vae": tmp_path / "vae"})
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.vae.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "text_model."])
@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_both_trees_of_clip_keys(prefix: str, name: str, tmp_path: Path) -> None:
    folder = tiny_folder("sdxl")
    weights = load_file(folder / name / "model.safetensors")
    bare = {key.removeprefix("text_model."): tensor for key, tensor in weights.items()}
    state = {key if key.startswith("text_projection") else prefix + key: tensor for key, tensor in bare.items()}
    state[prefix + "embeddings.position_ids"] = torch.arange(77)[None]
    (tmp_path / name).mkdir()
    save_file(state, tmp_path / name / "model.safetensors")
    (tmp_path / name / "config.json").write_text((folder / name / "config.json").read_text())
    model = load_model(folder, components={name: tmp_path / name})
    expected = load_model(folder).components[name].state_dict()
    mine = model.components[name].state_dict()
    assert all(torch.equal(mine[key], tensor) for key, tensor in expected.items())


def test_wrong_overrides(tmp_path: Path) -> None:
    folder = tiny_folder("sd1")
    for components, words in (
        ({"vae": folder / "unet"}, "a UNet2DConditionModel; as vae sdcore takes AutoencoderKL"),
        ({"vae": folder / "text_encoder" / "model.safetensors"}, "has no VAE .it looks like a CLIP text encoder"),
        ({"unet": folder / "vae" / "diffusion_pytorch_model.safetensors"}, "looks like a VAE alone"),
        ({"text_encoder": folder / "text_encoder" / "model.safetensors"}, "is a file; name the folder"),
        ({"tokenizer": folder / "vae"}, "no tokenizer"),
        ({"scheduler": {"steps": 3}}, "needs a configuration with '_class_name'"),
    ):
        with pytest.raises(ModelError, match=words):
            load_model(folder, components=components)
