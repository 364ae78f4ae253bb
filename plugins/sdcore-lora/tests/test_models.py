"""Merging into a model's files, extracting from two models, and converting between layouts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sdcore_lora import LoRA, LoRAPlugin, extract, merge, read_lora, save_lora
from sdcore_lora.checkpoints import open_checkpoint
from sdcore_lora.extracting import low_rank
from sdcore_lora.names import module_name

from sdcore import Engine, ModelError, OutputError, RequestError
from sdcore.testing.parity import Recorder
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
TEXT = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "refiner": {"text_encoder_2": "conditioner.embedders.0.model."},
}
CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "encoder.layers": "transformer.resblocks",
}


def _unet_key(key: str, crossed: set[str], layers: int = 1) -> str:
    path, _, last = key.rpartition(".")
    if path in OUTSIDE:
        return f"{OUTSIDE[path]}.{last}"
    side, rest = key.split(".", 1)
    if side == "mid_block":
        kind, number, rest = rest.split(".", 2)
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
    else:
        block, kind, number, rest = rest.split(".", 3)
        first = int(block) * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv.', 'op.')}"
        if kind == "upsamplers":
            return f"output_blocks.{first + layers}.{2 if block in crossed else 1}.{rest}"
        name, offset = ("input_blocks", 1) if side == "down_blocks" else ("output_blocks", 0)
        place = f"{name}.{first + offset + int(number)}.{0 if kind == 'resnets' else 1}"
    if kind == "resnets":
        head, _, end = rest.rpartition(".")
        rest = f"{RESNET[head]}.{end}"
    return f"{place}.{rest}"


def single_file(family: str, path: Path) -> Path:
    """The tiny model of a family as one file in the original layout (without its VAE); one layer per block."""
    folder = tiny_folder(family)
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    crossed = {found[1] for key in unet if (found := re.match(r"up_blocks\.(\d+)\.attentions", key))}
    state = {"model.diffusion_model." + _unet_key(key, crossed): value for key, value in unet.items()}
    for name, prefix in TEXT[family].items():
        text = load_file(folder / name / "model.safetensors")
        if prefix.endswith("transformer."):
            state |= {prefix + key: value for key, value in text.items()}
            continue
        text = {key.removeprefix("text_model."): value for key, value in text.items()}
        for key, value in text.items():
            if key == "text_projection.weight":
                state[prefix + "text_projection"] = value.T
            elif ".q_proj." in key:
                joined = torch.cat([text[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
                new = key.replace("encoder.layers", "transformer.resblocks").replace(
                    "self_attn.q_proj.", "attn.in_proj_"
                )
                state[prefix + new] = joined
            elif ".k_proj." not in key and ".v_proj." not in key:
                for new, old in CLIP.items():
                    key = key.replace(new, old)
                state[prefix + key] = value
        if family == "sd2":  # a last layer that is not used
            state |= {k.replace("blocks.0.", "blocks.3."): v for k, v in state.items() if "resblocks.0." in k}
            state[prefix + "text_projection"] = torch.eye(64)
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path, metadata={"note": "kept"})
    return path


PUBLISHED: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768},
    "sdxl": {
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.mark.parametrize("family", list(PUBLISHED))
def test_every_name_of_the_published_models_is_read_in_every_spelling(family: str) -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**PUBLISHED[family])
    names = [name.removesuffix(".weight") for name, _ in unet.named_parameters() if name.endswith(".weight")]
    crossed = {found[1] for name in names if (found := re.match(r"up_blocks\.(\d+)\.attentions", name))}
    assert len(names) > 350
    for name in names:
        original = _unet_key(name + ".weight", crossed, layers=2).removesuffix(".weight")
        for spelling in (name, name.replace(".", "_"), original, original.replace(".", "_")):
            assert module_name(spelling) == name, spelling


def _load(model: Path, family: str) -> Engine:
    folder = tiny_folder(family)
    given: dict[str, object] = {p.name: p for p in folder.iterdir() if p.name.startswith(("tokenizer", "vae"))}
    more = {"components": {**given, "scheduler": folder / "scheduler"}} if model.is_file() else {}
    return Engine.load(model, plugins=[LoRAPlugin, Recorder], **more)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("single", [False, True])
def test_a_merged_model_is_the_model_with_the_lora(family: str, single: bool, draw: Any, tmp_path: Path) -> None:
    model = single_file(family, tmp_path / "model.safetensors") if single else tiny_folder(family)
    loras = [
        LoRA(
            path=str(tiny_lora(tmp_path / "a.safetensors", family, algorithm="locon")), weight=0.6, blocks={"mid": 0.5}
        ),
        LoRA(path=str(tiny_lora(tmp_path / "b.safetensors", family, algorithm="dora", seed=1)), weight=-0.4),
    ]
    steps: list[tuple[int, int]] = []
    out = tmp_path / ("merged.safetensors" if single else "merged")
    done = merge(model, loras, out, progress=lambda number, total: steps.append((number, total)))
    assert done.path == out
    assert steps[-1][0] == steps[-1][1] > 50
    expected = draw(_load(model, family), *loras)
    assert torch.equal(draw(_load(out, family)), expected)
    assert not torch.equal(draw(_load(model, family)), expected)
    assert not list(tmp_path.glob(".sdcore*"))
    (tmp_path / "new").touch()
    written = out if single else out / "unet" / "diffusion_pytorch_model.safetensors"
    assert written.stat().st_mode == (tmp_path / "new").stat().st_mode
    with pytest.raises(OutputError, match="exists already"):
        merge(model, loras, out)


def test_what_cannot_be_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdcore_lora import merging

    model, file = tiny_folder("sd1"), str(tiny_lora(tmp_path / "a.safetensors", "sd1"))
    with pytest.raises(RequestError, match="depends on the step"):
        merge(model, [LoRA(path=file, start=0.5)], tmp_path / "out")
    with pytest.raises(RequestError, match="all weights are 0"):
        merge(model, [LoRA(path=file, weight=0)], tmp_path / "out")
    with pytest.raises(ModelError, match="is for"):
        merge(model, [tiny_lora(tmp_path / "b.safetensors", "sdxl")], tmp_path / "out")
    with pytest.raises(ModelError, match="is no checkpoint in the original layout"):
        merge(file, [file], tmp_path / "out")
    monkeypatch.setattr(merging, "part_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merge(model, [file], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_merge_keeps_the_type_and_the_metadata(tmp_path: Path) -> None:
    from safetensors import safe_open

    model = single_file("sd1", tmp_path / "model.safetensors")
    half = {key: value.half() for key, value in load_file(model).items()}
    save_file(half, model, metadata={"note": "kept"})
    out = merge(model, [tiny_lora(tmp_path / "a.safetensors", "sd1")], tmp_path / "out.safetensors").path
    assert {value.dtype for value in load_file(out).values()} == {torch.float16}
    with safe_open(out, framework="pt") as stream:
        assert stream.metadata()["note"] == "kept"


def _tuned(tmp_path: Path, rank: int, family: str = "sd1") -> Path:
    lora = tiny_lora(tmp_path / "known.safetensors", family, rank=rank, algorithm="locon")
    return merge(tiny_folder(family), [lora], tmp_path / "tuned").path


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_difference_of_known_rank_is_found_again(family: str, draw: Any, engine_of: Any, tmp_path: Path) -> None:
    tuned = _tuned(tmp_path, 4, family)
    found = extract(tiny_folder(family), tuned, rank=4)
    assert found.error < 1e-3
    assert not found.left_out
    file = save_lora(found.lora, tmp_path / "found.safetensors")
    expected = draw(_load(tuned, family))
    drawn = draw(engine_of(family), LoRA(path=str(file)))
    assert (drawn - expected).abs().max() < 0.02
    assert (draw(engine_of(family)) - expected).abs().max() > 0.5


def test_the_error_that_remains_is_told_and_falls_with_the_rank(tmp_path: Path) -> None:
    tuned = _tuned(tmp_path, 8)
    errors = [extract(tiny_folder("sd1"), tuned, rank=rank).error for rank in (1, 3, 8)]
    assert 0.8 < errors[0] < 1
    assert errors[0] > errors[1] > 0.3
    assert errors[2] < 1e-3
    matrix = torch.randn(12, 9, generator=torch.Generator().manual_seed(0))
    up, down, squared = low_rank(matrix, 4)
    assert float((matrix - up @ down).square().sum()) == pytest.approx(squared, rel=1e-4)


def test_what_an_extraction_leaves_out(tmp_path: Path) -> None:
    tuned = shutil.copytree(tiny_folder("sd1"), tmp_path / "tuned")
    file = tuned / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"] = weights["conv_in.bias"] + 1
    save_file(weights, file)
    with pytest.raises(RequestError, match=r"do not differ in any layer.*unet\.conv_in\.bias"):
        extract(tiny_folder("sd1"), tuned)
    weights["conv_in.weight"] = weights["conv_in.weight"] * 1.5
    save_file(weights, file)
    found = extract(tiny_folder("sd1"), tuned, rank=2)
    assert found.left_out == ("unet.conv_in.bias",)
    assert 0 < found.outside < 1
    with pytest.raises(RequestError, match="rank is 0"):
        extract(tiny_folder("sd1"), tuned, rank=0)
    with pytest.raises(ModelError, match="must be of one family"):
        extract(tiny_folder("sd2"), tuned)


def test_extract_between_a_folder_and_a_file(tmp_path: Path) -> None:
    model = single_file("sdxl", tmp_path / "model.safetensors")
    tuned = merge(model, [tiny_lora(tmp_path / "a.safetensors", "sdxl")], tmp_path / "b.safetensors").path
    found = extract(tiny_folder("sdxl"), tuned, rank=4)
    assert found.error < 1e-3
    assert {component for component, _ in found.lora.layers} == {"unet", "text_encoder", "text_encoder_2"}


@pytest.mark.parametrize("family", ["sd1", "sdxl", "refiner"])
@pytest.mark.parametrize("algorithm", ["lora", "dora", "locon"])
def test_conversions_keep_the_effect(family: str, algorithm: str, tmp_path: Path) -> None:
    plan = open_checkpoint(tiny_folder(family)).plan()
    source = tiny_lora(tmp_path / "a.safetensors", family, algorithm=algorithm)
    known = _effects(source, plan)
    assert len(known) > 60
    for layout in ("diffusers", "peft", "kohya"):
        target = tmp_path / (layout if layout == "peft" else f"{layout}.safetensors")
        source = save_lora(read_lora(source), target, layout=layout)
        found = _effects(source, plan)
        assert found.keys() == known.keys()
        assert all(torch.allclose(found[name], known[name], atol=1e-6) for name in known), layout


@pytest.mark.parametrize("algorithm", ["loha", "lokr"])
def test_conversions_of_lycoris(algorithm: str, tmp_path: Path) -> None:
    plan = open_checkpoint(tiny_folder("sd1")).plan()
    source = tiny_lora(tmp_path / "a.safetensors", "sd1", algorithm=algorithm, rank=2)
    known = _effects(source, plan)
    middle = save_lora(read_lora(source), tmp_path / "peft", layout="peft")
    back = save_lora(read_lora(middle), tmp_path / "b.safetensors")
    for file in (middle, back):
        found = _effects(file, plan)
        assert all(torch.allclose(found[name], known[name], atol=1e-6) for name in known)
    with pytest.raises(OutputError, match=f"layout of diffusers cannot hold {algorithm}"):
        save_lora(read_lora(source), tmp_path / "c.safetensors", layout="diffusers")
    assert not (tmp_path / "c.safetensors").exists()


def _effects(path: Path, plan: Any) -> dict[str, torch.Tensor]:
    from sdcore_lora.changes import changes_of
    from sdcore_lora.library import read_entry

    entry = read_entry(path, plan)
    assert entry.binding.problem is None
    assert not entry.binding.unused
    found = {}
    for change in changes_of(entry):
        shape = plan.modules[change.bound.component][change.bound.layer.module]
        weight = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)
        found[f"{change.bound.component}.{change.bound.layer.module}"] = change.of_weight(weight)
    return found


def test_tucker_becomes_a_plain_convolution_for_diffusers(save: Any, tmp_path: Path) -> None:
    name = "lora_unet_mid_block_resnets_0_conv1"
    generator = torch.Generator().manual_seed(0)
    shapes = {"lora_down.weight": (4, 64, 1, 1), "lora_mid.weight": (3, 4, 3, 3), "lora_up.weight": (64, 3, 1, 1)}
    tensors = {f"{name}.{part}": torch.randn(shape, generator=generator) for part, shape in shapes.items()}
    source = save(tmp_path / "a.safetensors", {**tensors, f"{name}.alpha": torch.tensor(2.0)})
    target = save_lora(read_lora(source), tmp_path / "b.safetensors", layout="diffusers")
    plan = open_checkpoint(tiny_folder("sd1")).plan()
    known, found = _effects(source, plan), _effects(target, plan)
    assert all(torch.allclose(found[key], known[key], rtol=1e-4, atol=1e-4) for key in known)


def test_new_words_are_kept_or_refused(rewrite: Any, tmp_path: Path) -> None:
    plain = tiny_lora(tmp_path / "a.safetensors", "sd1", targets=["attention"])
    source = rewrite(
        plain, tmp_path / "b.safetensors", lambda key: key, tensors={"bundle_emb.zwx.clip_l": torch.ones(1, 64)}
    )
    kept = save_lora(read_lora(source), tmp_path / "c.safetensors")
    assert torch.equal(load_file(kept)["bundle_emb.zwx.clip_l"], torch.ones(1, 64))
    with pytest.raises(OutputError, match="no place for new words"):
        save_lora(read_lora(source), tmp_path / "d", layout="peft")


def test_files_of_the_installed_model(tmp_path: Path) -> None:
    from sdcore.models import installed_models

    mini = next((model for model in installed_models() if model.name == "mini"), None)
    if mini is None:
        pytest.skip("sdcore-mini is not installed")
    plan = open_checkpoint("mini").plan()
    assert plan.modules["unet"]["conv_in"][1] == 8
    assert (
        json.loads((Path(mini.path) / "unet" / "config.json").read_text())["layers_per_block"] == plan.layers_per_block
    )
