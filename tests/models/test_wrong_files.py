"""Whatever is given instead of a model, the error says what it looked like and what was expected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcore.errors import ModelError
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .original_layout import original_state, save_single_file

FOREIGN = {
    "a LoRA": ["lora_unet_down_blocks_0_attentions_0.lora_down.weight", "lora_unet_x.alpha"],
    "a LoRA#peft": ["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"],
    "a LoRA#loha": ["lora_unet_mid.hada_w1_a"],
    "a ControlNet": ["controlnet_cond_embedding.conv_in.weight", "conv_in.weight", "down_blocks.0.resnets.0.x"],
    "a ControlNet#original": ["control_model.input_blocks.0.0.weight", "control_model.input_hint_block.0.weight"],
    "a T2I-Adapter": ["adapter.body.0.resnets.0.block1.weight"],
    "a VAE alone": ["encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.up.0.block.0.norm1.weight"],
    "a VAE alone#prefix": ["first_stage_model.encoder.conv_in.weight", "first_stage_model.decoder.conv_in.weight"],
    "a tiny VAE (TAESD) alone": ["encoder.layers.0.weight", "decoder.layers.1.weight"],
    "a textual-inversion embedding": ["emb_params"],
    "a textual-inversion embedding#xl": ["clip_l", "clip_g"],
    "a textual-inversion embedding#name": ["<cat-toy>"],
    "a CLIP text encoder alone": ["text_model.encoder.layers.0.self_attn.q_proj.weight", "text_model.a", "b"],
    "a Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
    "a Flux": ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"],
    "a Flux#bare": ["double_blocks.0.img_attn.norm.key_norm.scale"],
    "a language model": ["model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight", "lm_head.weight"],
    "a language model#gpt": ["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight", "transformer.wpe"],
    "a motion module": ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"],
    "an IP-Adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "an upscaler": ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.3.weight"],
    "a U-Net alone, in diffusers": ["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight", "conv_out.bias"],
    "a U-Net alone, without": ["input_blocks.0.0.weight", "input_blocks.1.0.in_layers.0.weight", "out.0.bias"],
    "a diffusion model of another architecture": [
        "model.diffusion_model.blocks.0.attn.weight",
        "model.diffusion_model.x",
        "y",
    ],
    "nothing known (its 3 tensors begin with 'aa'": ["aa", "bb", "cc"],
}


@pytest.mark.parametrize("words", FOREIGN)
def test_another_kind_of_weights(words: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(2, 2, 1) for key in FOREIGN[words]}, file)
    with pytest.raises(ModelError) as raised:
        load_model(file)
    assert f"looks like {words.partition('#')[0]}" in str(raised.value)
    assert str(file) in str(raised.value)
    assert "expected a Stable Diffusion" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265146304\n", "a git-lfs pointer"),
        (b"GGUF\x03\x00\x00\x00" + bytes(40), "a GGUF file"),
        (b"PK\x03\x04" + bytes(40), "a PyTorch pickle"),
        (b"\x80\x02}q\x00" + bytes(40), "a PyTorch pickle"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a picture"),
        (b'{"error": "Access denied"}', "a JSON text"),
        (b"\x01\x02\x03", "not a safetensors file"),
        (bytes(7) + b"\x80" + bytes(100), "not a safetensors file"),
        ((20).to_bytes(8, "little") + b"this is not JSON at all", "its header is not JSON"),
        ((8).to_bytes(8, "little") + b"[1,2,3] ", "does not list tensors"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
    ],
)
def test_foreign_bytes(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError) as raised:
        load_model(file)
    assert words in str(raised.value)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("keep", [0.5, 0.999, 0.001])
def test_truncated(keep: float, tmp_path: Path) -> None:
    file = save_single_file(tiny_folder("sd1"), "sd1", tmp_path / "model.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match=r"truncated|cut off") as raised:
        load_model(file)
    assert str(len(content)) in str(raised.value) or "header" in str(raised.value)


def test_too_long(tmp_path: Path) -> None:
    file = save_single_file(tiny_folder("sd1"), "sd1", tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ModelError, match="longer than its header says"):
        load_model(file)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("edm_mean", "Playground"),
        ("edm_vpred.sigma_max", "CosXL"),
        ("model.diffusion_model.label_emb.weight", "upscaler"),
    ],
)
def test_relatives_that_need_another_sampler(key: str, words: str, tmp_path: Path) -> None:
    extra = {key: torch.zeros(4)}
    file = save_single_file(tiny_folder("sdxl"), "sdxl", tmp_path / "model.safetensors", extra=extra)
    with pytest.raises(ModelError, match=words):
        load_model(file)


@pytest.mark.parametrize(
    ("family", "drop", "words"),
    [
        ("sd1", "first_stage_model.", "has no VAE .* components={'vae'"),
        ("sd1", "cond_stage_model.", "has no text_encoder .* components={'text_encoder'"),
        ("sdxl", "conditioner.embedders.0.", "has no text_encoder .* components={'text_encoder'"),
        ("sd1", "model.diffusion_model.time_embed.", "time_embedding.linear_1.weight is missing"),
        (
            "sd1",
            "model.diffusion_model.input_blocks.1.0.in_layers.2",
            "U-Net is not complete .*down_blocks.0.resnets.0",
        ),
        ("sd1", "first_stage_model.encoder.conv_in", "VAE is not complete .*encoder.conv_in.weight"),
        ("sd1", "cond_stage_model.transformer.text_model.embeddings.token", "text_encoder is not complete"),
    ],
)
def test_incomplete_single_file(family: str, drop: str, words: str, tmp_path: Path) -> None:
    folder = tiny_folder(family)
    file = save_single_file(folder, family, tmp_path / "model.safetensors", drop=(drop,))
    with pytest.raises(ModelError, match=words):
        load_model(file, components={path.name: path for path in folder.glob("tokenizer*")})


def test_vocabulary_without_a_tokenizer(tmp_path: Path) -> None:
    file = save_single_file(tiny_folder("sd1"), "sd1", tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"not the 49408 of CLIP.*components=\{'tokenizer': folder\}"):
        load_model(file)


def resized_unet(folder: Path, **changes: object) -> object:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config = json.loads((folder / "unet" / "config.json").read_text())
    return UNet2DConditionModel.from_config(config | changes)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("sd1"), tmp_path / "model"))


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_folder_of_a_component(copy: Path, component: str) -> None:
    shutil.rmtree(copy / component)
    with pytest.raises(ModelError, match=component):
        load_model(copy)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_missing_and_damaged_files_of_a_component(copy: Path, component: str) -> None:
    weights = next((copy / component).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match=f"{component}.*truncated"):
        load_model(copy)
    weights.unlink()
    with pytest.raises(ModelError, match=f"{component}: no weights"):
        load_model(copy)
    (copy / component / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        load_model(copy)
    (copy / component / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config.json: cannot be read"):
        load_model(copy)


def test_missing_shard(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.unlink()
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part-1.safetensors"}}))
    with pytest.raises(ModelError, match=r"part-1.safetensors.*not there"):
        load_model(copy)
    index.write_text(json.dumps({"weight_map": {"a": "../../outside.safetensors"}}))
    with pytest.raises(ModelError, match="outside its folder"):
        load_model(copy)


def test_shape_mismatch_names_the_key_and_both_shapes(copy: Path) -> None:
    path = copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cross_attention_dim": 96}))
    with pytest.raises(ModelError) as raised:
        load_model(copy)
    for part in ("attn2.to_k.weight", ", 64)", ", 96)"):
        assert part in str(raised.value)


def test_weights_of_a_larger_model(copy: Path) -> None:
    file = copy / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"encoder.layers.2.* has no place"):
        load_model(copy)


def test_components_of_different_models(tmp_path: Path) -> None:
    wide = tiny_folder("sdxl")
    with pytest.raises(ModelError, match="text encoding is 128 wide and the U-Net expects 64"):
        load_model(tiny_folder("sd1"), components={"text_encoder": wide / "text_encoder_2"})
    with pytest.raises(ModelError, match="a CLIPTextModel; as text_encoder_2 sdcore takes"):
        load_model(tiny_folder("refiner"), components={"text_encoder_2": wide / "text_encoder"})
    with pytest.raises(ModelError, match=r"takes 176 added values, but 128 .* make 188 or 178"):
        load_model(wide, components={"unet": resized_unet(wide, addition_time_embed_dim=10)})


def test_channels_that_fit_no_task(copy: Path) -> None:
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 5}))
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"] = torch.randn(32, 5, 3, 3)
    save_file(weights, file)
    with pytest.raises(ModelError, match="takes 5 channels and latents have 4"):
        load_model(copy)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite(copy: Path, component: str, bad: float) -> None:
    file = next((copy / component).glob("*.safetensors"))
    weights = load_file(file)
    key = sorted(weights)[7]
    weights[key].reshape(-1)[3] = bad
    save_file(weights, file)
    with pytest.raises(ModelError, match="holds NaN or infinity") as raised:
        load_model(copy)
    assert key.removeprefix("text_model.") in str(raised.value)
    assert component in str(raised.value)


def test_large_finite_weights_are_fine(copy: Path) -> None:
    """Their sum overflows, but each of them is finite."""
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"] = torch.full_like(weights["conv_in.bias"], 3e38)
    save_file(weights, file)
    assert float(load_model(copy).unet.conv_in.bias[0]) > 1e38


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "nothing in it"),
        ({"adapter_config.json": "{}"}, "the folder of a LoRA"),
        ({"pytorch_lora_weights.safetensors": ""}, "the folder of a LoRA"),
        ({"config.json": '{"_class_name": "ControlNetModel"}'}, r"one component \(ControlNetModel\)"),
        ({"config.json": '{"architectures": ["LlamaForCausalLM"]}'}, r"one component \(LlamaForCausalLM\)"),
        ({"v1-5.safetensors": "", "v1-5.yaml": ""}, "name the .safetensors file itself"),
        ({"readme.txt": "", "photo.png": ""}, "photo.png, readme.txt"),
    ],
)
def test_folder_without_an_index(files: dict[str, str], words: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=f"no model_index.json.*{words}"):
        load_model(tmp_path)


def test_folder_of_another_pipeline(tmp_path: Path) -> None:
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="a folder of FluxPipeline, without unet"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8}, "unCLIP"),
        ({"num_class_embeds": 1000}, "upscaler"),
    ],
)
def test_relatives_in_folders(copy: Path, change: dict[str, object], words: str) -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    path = copy / "unet" / "config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps(config))
    unet = UNet2DConditionModel.from_config(config)
    save_file(unet.state_dict(), copy / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match=words):
        load_model(copy)


def test_another_class_in_a_component(copy: Path) -> None:
    path = copy / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["T5EncoderModel"]}))
    with pytest.raises(ModelError, match="a T5EncoderModel; as text_encoder sdcore takes CLIPTextModel"):
        load_model(copy)


def test_arguments(tmp_path: Path) -> None:
    folder = tiny_folder("sd1")
    with pytest.raises(ModelError, match="device is 'toaster'"):
        load_model(folder, device="toaster")
    with pytest.raises(ModelError, match="dtype is 'int8'"):
        load_model(folder, dtype="int8")
    with pytest.raises(ModelError, match="prediction_type is 'noise'"):
        load_model(folder, prediction_type="noise")
    with pytest.raises(ModelError, match="components: 'vea' is unknown"):
        load_model(folder, components={"vea": folder / "vae"})
    with pytest.raises(ModelError, match="does not exist"):
        load_model(folder, components={"vae": tmp_path / "nothing"})
    with pytest.raises(ModelError, match="no such folder or file, and no such installed model"):
        load_model(tmp_path / "nothing")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(ModelError, match=r"reads diffusers folders and .safetensors files"):
        load_model(text)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="finds no CUDA device"):
            load_model(folder, device="cuda")


def test_damaged_defaults(copy: Path) -> None:
    (copy / "sdcore.json").write_text('{"defaults": [1]}')
    with pytest.raises(ModelError, match=r"sdcore.json: expected an object"):
        load_model(copy)
    (copy / "sdcore.json").write_text('{"defaults": {"steps": 7}}')
    assert load_model(copy).defaults == {"steps": 7}


def test_keys_of_every_family_are_recognised_as_models() -> None:
    """None of the tells for foreign files is in a real checkpoint's keys."""
    from sdcore.models.identify import looks_like

    for family in ("sd1", "sd2", "sdxl", "refiner"):
        shapes = {key: tuple(t.shape) for key, t in original_state(tiny_folder(family), family).items()}
        assert looks_like(shapes) == "a diffusion model of another architecture"
