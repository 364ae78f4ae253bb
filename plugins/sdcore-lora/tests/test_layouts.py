"""Layouts that diffusers does not read, and odd files: each has the effect of the same LoRA in kohya's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sdcore_lora import LoRA, read_lora, save_lora
from sdcore_lora.checkpoints import open_checkpoint
from sdcore_lora.inspecting import describe
from sdcore_lora.keys import read_key
from sdcore_lora.names import module_name, original_block

from sdcore.events import Warned
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora


def _same(draw: Any, engine: Any, one: Path, other: Path) -> bool:
    a, b = draw(engine, LoRA(path=str(one))), draw(engine, LoRA(path=str(other)))
    assert not torch.equal(a, draw(engine))
    return torch.equal(a, b)


def test_early_attention_processors(draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", layout="diffusers", targets=["attention"])

    def rename(key: str) -> str:
        key = key.removeprefix("unet.")
        key = key.replace(".lora_A.", ".down.").replace(".lora_B.", ".up.")
        for name in ("to_q", "to_k", "to_v"):
            key = key.replace(f".{name}.", f".processor.{name}_lora.")
        return key.replace(".to_out.0.", ".processor.to_out_lora.")

    old = rewrite(new, tmp_path / "old.safetensors", rename)
    assert "processor.to_out_lora.down.weight" in "".join(load_file(old))
    assert _same(draw, engine, new, old)


@pytest.mark.parametrize("down", [".lora.down.weight", ".lora_linear_layer.down.weight", ".lora_A.default.weight"])
def test_other_endings_of_diffusers(down: str, draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", layout="diffusers")
    up = down.replace("down", "up").replace("_A", "_B")
    old = rewrite(
        new, tmp_path / "old.safetensors", lambda k: k.replace(".lora_A.weight", down).replace(".lora_B.weight", up)
    )
    assert _same(draw, engine, new, old)


def test_text_encoder_in_the_spelling_of_early_diffusers(draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", layout="diffusers", targets=["text"])

    def rename(key: str) -> str | None:
        if ".mlp." in key:
            return None
        for name, old in (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")):
            key = key.replace(f".{name}.lora_A", f".{old}_lora.down").replace(f".{name}.lora_B", f".{old}_lora.up")
        return key

    old = rewrite(new, tmp_path / "old.safetensors", rename)
    kept = rewrite(new, tmp_path / "kept.safetensors", lambda key: None if ".mlp." in key else key)
    assert _same(draw, engine, kept, old)


def _early(new: Path, target: Path, save: Any, classes: list[str], between: bool) -> Path:
    """The numbered layout, written from the structure of the model as its trainer walked it."""
    given = load_file(new)
    modules = list(dict.fromkeys(key.split(".lora_")[0] for key in given))
    unet = [m for m in modules if m.startswith("unet.")]
    unet.sort(key=lambda m: (m.startswith("unet.mid"), m.startswith("unet.up")))
    blocks = list(dict.fromkeys(m.split(".transformer_blocks.")[0] for m in unet))
    order = []
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    for block in blocks:
        top = f"{block}.transformer_blocks.0"
        first, second = ([f"{top}.attn{n}.{name}" for name in attention] for n in (1, 2))
        inner = [f"{top}.ff.net.0.proj"] if "GEGLU" in classes else []
        order += [*first, *inner, *second] if between else [*first, *second, *inner]
    text = [m for m in modules if m.startswith("text_encoder.") and ".self_attn." in m]
    names = ("k_proj", "v_proj", "q_proj", "out_proj")  # the order in transformers' class
    text.sort(key=lambda m: (int(m.split(".layers.")[1].split(".")[0]), names.index(m.rsplit(".", 1)[1])))
    tensors, metadata = {}, {"unet": json.dumps(classes), "text_encoder": json.dumps(["CLIPAttention"])}
    for component, found in (("unet", order), ("text_encoder", text)):
        for number, module in enumerate(found):
            tensors[f"{component}:{number}:down"] = given[f"{module}.lora_A.weight"]
            tensors[f"{component}:{number}:up"] = given[f"{module}.lora_B.weight"]
            metadata[f"{component}:{number}:rank"] = "4"
    tensors["<s1>"] = torch.full((64,), 2.0)
    metadata["<s1>"] = "<embed>"
    return save(target, tensors, metadata)


@pytest.mark.parametrize(("classes", "between"), [(["CrossAttention", "Attention", "GEGLU"], True),
                                                  (["CrossAttention", "GEGLU"], False),
                                                  (["CrossAttention"], True)])  # fmt: skip
def test_numbered_pairs(classes: list[str], between: bool, draw: Any, engine: Any, rewrite: Any, save: Any,
                        tmp_path: Path) -> None:  # fmt: skip
    new = tiny_lora(tmp_path / "all.safetensors", "sd1", layout="diffusers")
    leave = [".net.2.", ".mlp."] + ([] if "GEGLU" in classes else [".net.0."])
    new = rewrite(new, tmp_path / "new.safetensors", lambda key: None if any(w in key for w in leave) else key)
    old = _early(new, tmp_path / "old.safetensors", save, classes, between)
    assert _same(draw, engine, new, old)
    read = read_lora(old, plan=open_checkpoint(tiny_folder("sd1")).plan())  # with the order of a file
    assert _same(draw, engine, new, save_lora(read, tmp_path / "kohya.safetensors"))
    plain, word = (draw(engine, LoRA(path=str(old)), prompt=text) for text in ("a red cat", "a red <s1>"))
    without = draw(engine, LoRA(path=str(old), words=False), prompt="a red <s1>")
    assert not torch.equal(plain, word)
    assert not torch.equal(without, word)


def test_numbered_pairs_of_another_model(draw: Any, engine_of: Any, save: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "all.safetensors", "sd1", layout="diffusers")
    old = _early(new, tmp_path / "old.safetensors", save, ["CrossAttention", "GEGLU"], True)
    with pytest.raises(Exception, match="numbered pairs for unet do not fit the modules of this model"):
        draw(engine_of("sdxl"), LoRA(path=str(old)))


@pytest.mark.parametrize(
    "key", ["bundle_emb.zwx.string_to_param.*", "bundle_emb.zwx.emb_params", "bundle_emb.zwx.clip_l"]
)
def test_new_words_of_onetrainer(key: str, draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", targets=["attention"])
    vectors = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    bundled = rewrite(new, tmp_path / "b.safetensors", lambda key: key, tensors={key: vectors})
    assert _same(draw, engine, new, bundled)  # a prompt without the word
    assert not torch.equal(draw(engine, LoRA(path=str(bundled)), prompt="a zwx"),
                           draw(engine, LoRA(path=str(new)), prompt="a zwx"))  # fmt: skip


def test_new_words_of_sdxl_have_two_vectors(draw: Any, engine_of: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sdxl", targets=["attention"])
    generator = torch.Generator().manual_seed(0)
    pairs = {"bundle_emb.zwx.clip_l": torch.randn(1, 64, generator=generator),
             "bundle_emb.zwx.clip_g": torch.randn(1, 128, generator=generator)}  # fmt: skip
    files = [rewrite(new, tmp_path / f"{n}.safetensors", lambda key: key, tensors=t)
             for n, t in enumerate([pairs, {k: v for k, v in pairs.items() if k.endswith("l")}])]  # fmt: skip
    drawn = [draw(engine_of("sdxl"), LoRA(path=str(file)), prompt="a zwx") for file in files]
    assert not torch.equal(*drawn)


def test_two_files_with_one_word_are_refused(draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", targets=["attention"])
    word = {"bundle_emb.zwx.clip_l": torch.ones(1, 64)}
    files = [str(rewrite(new, tmp_path / f"{n}.safetensors", lambda key: key, tensors=word)) for n in "ab"]
    with pytest.raises(Exception, match="both bring the word 'zwx'"):
        draw(engine, *(LoRA(path=file) for file in files))
    draw(engine, LoRA(path=files[0]), LoRA(path=files[1], words=False))
    draw(engine, LoRA(path=files[0]), LoRA(path=files[0]))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.replace("lora_unet_", "lora_unet_lora_unet_"),
        lambda key: key.replace("lora_te_", "lora_te_lora_te_"),
        lambda key: key.replace("lora_te_", "lora_te1_"),
    ],
)
def test_doubled_and_unusual_prefixes(change: Any, draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1")
    odd = rewrite(new, tmp_path / "odd.safetensors", change)
    assert _same(draw, engine, new, odd)
    doubled = any(key.count("lora_unet_") + key.count("lora_te_") > 1 for key in load_file(odd))
    assert any("prefixes that come twice" in note for note in describe(odd)["notes"]) == doubled


@pytest.mark.parametrize(
    "prefix", ["unet.unet.", "unet.base_model.model.", "base_model.model.unet.", "", "diffusion_model."]
)
def test_prefixes_of_dotted_names(prefix: str, draw: Any, engine: Any, rewrite: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1", layout="diffusers", targets=["attention", "convolutions"])
    odd = rewrite(new, tmp_path / "odd.safetensors", lambda key: prefix + key.removeprefix("unet."))
    assert _same(draw, engine, new, odd)


def test_a_missing_alpha_is_the_rank_and_is_told(
    draw: Any, engine: Any, rewrite: Any, fields: Any, tmp_path: Path
) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1")
    bare = rewrite(new, tmp_path / "bare.safetensors", lambda key: None if key.endswith("alpha") else key)
    events: list[Any] = []
    result = engine.generate(use=[LoRA(path=str(bare), weight=0.5)], on_event=events.append, **fields)
    assert torch.equal(result.latents, draw(engine, LoRA(path=str(new))))  # its alpha is half its rank
    assert any(isinstance(e, Warned) and "have no alpha; it is taken to be the rank" in e.message for e in events)


def test_every_key_is_used_or_told(engine: Any, rewrite: Any, fields: Any, tmp_path: Path) -> None:
    new = tiny_lora(tmp_path / "new.safetensors", "sd1")
    more = {
        "lora_unet_down_blocks_9_attentions_0_proj_in.lora_down.weight": torch.ones(2, 2),
        "lora_unet_down_blocks_9_attentions_0_proj_in.lora_up.weight": torch.ones(2, 2),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(2, 2),
        "lora_unet_down_blocks_9_attentions_0_proj_in.alpha": torch.ones(()),
        "something.else": torch.ones(1),
        "bundle_emb.x.clip_l_out": torch.ones(1, 64),
    }
    file = rewrite(new, tmp_path / "more.safetensors", lambda key: key, tensors=more)
    events: list[Any] = []
    result = engine.generate(use=[LoRA(path=str(file))], on_event=events.append, **{**fields, "output": "image"})
    report = result.pictures[0].reports["lora"]["files"][0]
    assert set(report["unused"]) == set(more)
    assert report["layers"] == {"text_encoder": 18, "unet": 70}
    assert str(tmp_path) not in json.dumps(report)
    told = [event.message for event in events if isinstance(event, Warned)]
    assert len(told) == 1
    assert "6 of" in told[0]
    assert "something.else (no part of a LoRA that is known)" in told[0]


@pytest.mark.parametrize(
    ("key", "component", "module", "part"),
    [
        ("lora_unet_mid_block_resnets_0_conv1.lora_mid.weight", "unet", "mid_block.resnets.0.conv1", "mid"),
        ("lora_unet_output_blocks_5_2_conv.hada_w1_a", "unet", "up_blocks.1.upsamplers.0.conv", "hada_w1_a"),
        ("lora_unet_input_blocks_3_0_op.alpha", "unet", "down_blocks.0.downsamplers.0.conv", "alpha"),
        ("lora_unet_label_emb_0_2.lokr_w2_b", "unet", "add_embedding.linear_2", "lokr_w2_b"),
        ("lora_unet_time_embed_0.diff_b", "unet", "time_embedding.linear_1", "diff_b"),
        ("lora_unet_out_2.lora_up.weight", "unet", "conv_out", "up"),
        ("lora_te2_text_model_encoder_layers_9_mlp_fc1.dora_scale", "text_encoder_2",
         "encoder.layers.9.mlp.fc1", "dora"),
        ("lora_te1_text_projection.lora_down.weight", "text_encoder", "text_projection", "down"),
        ("text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc2.lora_up.weight", "text_encoder_2",
         "encoder.layers.0.mlp.fc2", "up"),
        ("base_model.model.encoder.layers.2.self_attn.q_proj.lora_magnitude_vector", "bare",
         "encoder.layers.2.self_attn.q_proj", "dora"),
    ],
)  # fmt: skip
def test_keys(key: str, component: str, module: str, part: str) -> None:
    found = read_key(key)
    assert found is not None
    assert (found.component, module_name(found.name), found.part) == (component, module, part)


def test_blocks_of_the_original_layout() -> None:
    assert original_block("down_blocks.1.attentions.0.proj_in") == "IN04"
    assert original_block("down_blocks.0.downsamplers.0.conv") == "IN03"
    assert original_block("up_blocks.3.resnets.2.conv1") == "OUT11"
    assert original_block("up_blocks.0.upsamplers.0.conv") == "OUT02"
    assert original_block("mid_block.resnets.1.conv1") == "M00"
    assert original_block("time_embedding.linear_1") == ""
