"""Files of textual inversion in the engine: latents against diffusers, every layout, wrong files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sdcore_dreambooth import TextualInversion, TextualInversionPlugin, read_embedding, save_embedding

from sdcore import Engine, ModelError, RequestError
from sdcore.events import Warned
from sdcore.testing.parity import Recorder, difference, ours, theirs
from sdcore.testing.tiny import tiny_folder

WIDTHS = {"sd1": {"text_encoder": 64}, "sdxl": {"text_encoder": 64, "text_encoder_2": 128}}
FIELDS: dict[str, Any] = {"height": 32, "width": 32, "guidance_scale": 3.0}
PROMPT = "a photo of <blob> on the red house"


def _vectors(family: str, places: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(places, width, generator=generator) for name, width in WIDTHS[family].items()}


def _engine(family: str) -> Engine:
    return Engine.load(tiny_folder(family), plugins=[TextualInversionPlugin, Recorder])


def _pipe(family: str) -> Any:
    index = json.loads((tiny_folder(family) / "model_index.json").read_text())
    return getattr(importlib.import_module("diffusers"), index["_class_name"]).from_pretrained(tiny_folder(family))


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_latents_are_those_of_diffusers(tmp_path: Path, family: str, places: int) -> None:
    vectors = _vectors(family, places)
    [path] = save_embedding(tmp_path / "blob.safetensors", "<blob>", vectors)
    pipe = _pipe(family)
    for name in vectors:
        suffix = name.removeprefix("text_encoder")
        [file] = save_embedding(tmp_path / f"{name}.safetensors", "<blob>", {name: vectors[name]}, "diffusers")
        # diffusers takes the word from the file's key
        pipe.load_textual_inversion(
            file, text_encoder=getattr(pipe, name), tokenizer=getattr(pipe, "tokenizer" + suffix)
        )
    fields = {**FIELDS, "prompt": PROMPT, "negative_prompt": "blue <blob>"}
    mine = ours(_engine(family), use=[TextualInversion(path=path)], seeds=[1, 2], steps=3, **fields)
    other = theirs(pipe, [1, 2], num_inference_steps=3, **fields)
    assert difference(mine, other) <= 1e-5
    plain = ours(_engine(family), seeds=[1, 2], steps=3, **fields)
    assert difference(mine, plain) > 1e-2


def test_every_layout_is_read_alike(tmp_path: Path) -> None:
    value = torch.randn(2, 64, generator=torch.Generator().manual_seed(3))
    layouts: dict[str, dict[str, torch.Tensor]] = {
        "a1111": {"emb_params": value},
        "diffusers": {"<blob>": value},
        "comfyui": {"clip_l": value},
        "old": {"string_to_param.*": value},
    }
    engine = _engine("sd1")
    found = []
    for name, tensors in layouts.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        use = TextualInversion(path=tmp_path / f"{name}.safetensors", word=None if name == "diffusers" else "<blob>")
        found.append(ours(engine, use=[use], prompt=PROMPT, seeds=[1], steps=2, **FIELDS).final)
    torch.save({"string_to_param": {"*": value}, "name": "<blob>"}, tmp_path / "pickle.pt")
    use = TextualInversion(path=tmp_path / "pickle.pt", allow_pickle=True)
    found.append(ours(engine, use=[use], prompt=PROMPT, seeds=[1], steps=2, **FIELDS).final)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_the_name_of_the_file_is_the_word_if_nothing_else_is_said(tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(1, 64)}, tmp_path / "blob.safetensors")
    engine = _engine("sd1")
    warned: list[str] = []

    def keep(event: Any) -> None:
        if isinstance(event, Warned):
            warned.append(event.message)

    use = [TextualInversion(path=tmp_path / "blob.safetensors")]
    engine.generate("a blob", use=use, steps=1, on_event=keep, **FIELDS)
    assert not warned
    engine.generate("a bulb", use=use, steps=1, on_event=keep, **FIELDS)
    assert "'blob'" in warned[0]


def test_a_part_of_sdxl_may_be_missing(tmp_path: Path) -> None:
    [path] = save_embedding(tmp_path / "blob.safetensors", "<blob>", {"text_encoder": torch.randn(1, 64)})
    _engine("sdxl").generate(PROMPT, use=[TextualInversion(path=path)], steps=1, **FIELDS)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    vectors = _vectors("sdxl")
    [path] = save_embedding(tmp_path / "blob.safetensors", "<blob>", vectors)
    assert set(load_file(path)) == {"clip_l", "clip_g"}
    found = read_embedding(path)
    assert found.word == "<blob>"
    assert torch.equal(found.vectors["clip_g"], vectors["text_encoder_2"])
    files = save_embedding(tmp_path / "other.safetensors", "<blob>", vectors, "diffusers")
    assert [file.name for file in files] == ["other.text_encoder.safetensors", "other.text_encoder_2.safetensors"]
    assert list(load_file(files[0])) == ["<blob>"]
    # for both encoders one width would fit, so the file says which is meant
    assert list(read_embedding(files[1]).vectors) == ["clip_g"]


@pytest.mark.parametrize(
    ("tensors", "wrong"),
    [
        ({"emb_params": torch.zeros(1, 32)}, "32 wide.*64"),
        ({"clip_g": torch.zeros(1, 64)}, "another family"),
        ({"emb_params": torch.full((1, 64), float("nan"))}, "NaN"),
        ({"emb_params": torch.zeros(1, 1, 64)}, "places, width"),
        ({"a.lora_down.weight": torch.zeros(1, 64), "b": torch.zeros(1)}, "lora:path"),
    ],
)
def test_wrong_files_are_refused_before_the_run(tmp_path: Path, tensors: dict[str, torch.Tensor], wrong: str) -> None:
    save_file(tensors, tmp_path / "blob.safetensors")
    with pytest.raises(RequestError, match=wrong):
        _engine("sd1").generate("a blob", use=[TextualInversion(path=tmp_path / "blob.safetensors")], steps=1, **FIELDS)


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_embedding(tmp_path / "blob.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match="complete"):
        read_embedding(tmp_path / "cut.safetensors")
    torch.save({"emb_params": torch.zeros(1, 64)}, tmp_path / "blob.pt")
    with pytest.raises(ModelError, match="allow_pickle"):
        read_embedding(tmp_path / "blob.pt")
    torch.save(Path("x"), tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        read_embedding(tmp_path / "evil.pt", allow_pickle=True)
