"""Every family from every layout: the same weights and the same outputs as the diffusers pipeline of the family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcore.models import Model, load_model
from sdcore.testing.tiny import tiny_folder

from .original_layout import save_single_file

CASES = [
    ("sd1", {}),
    ("sd1", {"in_channels": 9}),
    ("sd1", {"in_channels": 8}),
    ("sd2", {}),
    ("sd2", {"prediction_type": "v_prediction"}),
    ("sd2", {"in_channels": 9}),
    ("sdxl", {}),
    ("sdxl", {"in_channels": 9}),
    ("sdxl", {"in_channels": 8}),
    ("refiner", {}),
]
IDS = ["-".join([family, *map(str, settings.values())]) for family, settings in CASES]
TASK = {4: "text", 9: "inpaint", 8: "instruct"}
PROMPTS = ["a red apple", "the cat on a house, flat style"]


def pipeline(folder: Path) -> Any:
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder)


@torch.inference_mode()
def outputs(components: dict[str, Any], tokenizers: dict[str, Any]) -> list[torch.Tensor]:
    """What each network makes of fixed inputs."""
    found = []
    unet, vae = components["unet"], components["vae"]
    for name in sorted(components):
        if name.startswith("text_encoder"):
            tokenizer = tokenizers[name.replace("text_encoder", "tokenizer")]
            ids = tokenizer(
                PROMPTS,
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            ).input_ids
            text = components[name](ids, output_hidden_states=True)
            found += [ids.float(), text.hidden_states[-2], text[0]]
    generator = torch.Generator().manual_seed(1)
    dtype = next(unet.parameters()).dtype
    noise = torch.randn(2, unet.config.in_channels, 16, 16, generator=generator).to(dtype)
    context = torch.randn(2, 7, unet.config.cross_attention_dim, generator=generator).to(dtype)
    added = None
    if unet.config.addition_embed_type:
        ids = (unet.config.projection_class_embeddings_input_dim - 128) // unet.config.addition_time_embed_dim
        pooled = torch.randn(2, 128, generator=generator).to(dtype)
        added = {"text_embeds": pooled, "time_ids": torch.full((2, ids), 64.0).to(dtype)}
    found.append(unet(noise, 500, context, added_cond_kwargs=added).sample)
    picture = torch.rand(1, 3, 32, 32, generator=generator).to(dtype)
    latent = vae.encode(picture).latent_dist.mode()
    return [*found, latent, vae.decode(latent).sample]


def assert_same(model: Model, pipe: Any) -> None:
    theirs = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert theirs.keys() == model.components.keys()
    for name, part in theirs.items():
        mine, expected = model.components[name].state_dict(), part.state_dict()
        assert mine.keys() == expected.keys()
        for key in expected:
            assert torch.equal(mine[key], expected[key]), f"{name}: {key}"
    tokenizers = {name: part for name, part in pipe.components.items() if name.startswith("tokenizer") and part}
    mine_out = outputs(model.components, dict(zip(sorted(tokenizers), model.tokenizers, strict=True)))
    for mine, expected in zip(mine_out, outputs(theirs, tokenizers), strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("family", "settings"), CASES, ids=IDS)
def test_folder(family: str, settings: dict[str, Any]) -> None:
    folder = tiny_folder(family, **settings)
    model, pipe = load_model(folder), pipeline(folder)
    assert_same(model, pipe)
    assert model.family == family
    assert model.task == TASK[settings.get("in_channels", 4)]
    assert (model.latent_channels, model.vae_scale_factor) == (4, 4)
    assert model.scheduler_config == json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert model.scheduler_config["_class_name"] == type(pipe.scheduler).__name__
    assert model.source == str(folder)
    assert not any(p.requires_grad for part in model.components.values() for p in part.parameters())
    assert not any(part.training for part in model.components.values())


@pytest.mark.parametrize(("family", "settings"), CASES, ids=IDS)
def test_single_file(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """The tokenizers of the folder are not CLIP's, so that they are given."""
    folder = tiny_folder(family, **settings)
    file = save_single_file(folder, family, tmp_path / "model.safetensors")
    tokenizers = {path.name: path for path in folder.glob("tokenizer*")}
    model = load_model(file, components=tokenizers, prediction_type=settings.get("prediction_type"))
    assert_same(model, pipeline(folder))
    assert (model.family, model.task) == (family, TASK[settings.get("in_channels", 4)])
    stated = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert model.vae.config.scaling_factor == load_model(folder).vae.config.scaling_factor
    if family != "sd2":  # those are probed: see test_prediction
        assert model.scheduler_config["prediction_type"] == stated["prediction_type"]
    ignored = ("_diffusers_version", "prediction_type", "clip_sample")  # latents are never clipped
    for key in stated.keys() - set(ignored):
        assert model.scheduler_config[key] == stated[key], key


@pytest.mark.parametrize("family", ["sd1", "sdxl", "refiner"])
def test_single_file_is_what_diffusers_makes_of_it(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family)
    file = save_single_file(folder, family, tmp_path / "model.safetensors")
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    pipe = getattr(diffusers, name).from_single_file(file, config=str(folder), local_files_only=True)
    assert_same(load_model(file, components={path.name: path for path in folder.glob("tokenizer*")}), pipe)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "refiner"])
def test_shards(family: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder(family), tmp_path / "model"))
    for file in [*folder.glob("*/model.safetensors"), *folder.glob("*/diffusion_pytorch_model.safetensors")]:
        weights = load_file(file)
        keys = sorted(weights)
        names = {key: f"{file.stem}-{1 + number % 3:05}-of-00003.safetensors" for number, key in enumerate(keys)}
        for name in set(names.values()):
            part = {key: weights[key] for key in keys if names[key] == name}
            save_file(part, file.with_name(name), metadata={"format": "pt"})
        index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": names}
        (file.parent / f"{file.stem}.safetensors.index.json").write_text(json.dumps(index))
        file.unlink()
    model = load_model(folder)
    assert_same(model, pipeline(tiny_folder(family)))
    assert len(model.weight_files["unet"]) == 3
    assert len(model.hashes()["unet"]) == 64


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "refiner"])
def test_variant(family: str, tmp_path: Path) -> None:
    half = tiny_folder(family, dtype="float16")
    folder = Path(shutil.copytree(half, tmp_path / "model"))
    for file in [*folder.glob("*/*.safetensors")]:
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    model = load_model(folder)
    assert_same(model, pipeline(half).to(torch.float32))
    assert model.dtype == torch.float32
    assert load_model(folder, dtype="float16").dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_single_file_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_folder("sd1")
    file = save_single_file(folder, "sd1", tmp_path / "model.safetensors", dtype=dtype)
    model = load_model(file, components={"tokenizer": folder / "tokenizer"}, dtype=dtype)
    expected = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    for key, tensor in model.unet.state_dict().items():
        assert torch.equal(tensor, expected[key].to(dtype))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_single_file_brings_the_tokenizer_of_clip(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, vocabulary="clip")
    file = save_single_file(folder, family, tmp_path / "model.safetensors")
    model = load_model(file)
    pads = {"sd1": [49407], "sd2": [0], "sdxl": [49407, 0]}[family]
    for tokenizer, pad in zip(model.tokenizers, pads, strict=True):
        ids = tokenizer("a photo of a cat", padding="max_length", truncation=True).input_ids
        assert ids == [49406, 320, 1125, 539, 320, 2368, 49407] + [pad] * 70
    assert all(encoder.config.eos_token_id == 49407 for encoder in model.text_encoders)
