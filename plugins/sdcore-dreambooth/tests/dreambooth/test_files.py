"""Where learnt words go: into the LoRA's file, or beside it for diffusers; names of files, and their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sdcore_dreambooth import Pivotal, Subject, read_embedding, save_embedding
from sdcore_dreambooth.bundles import bundle
from sdcore_dreambooth.word_files import save_words
from sdcore_train import train

from sdcore import Engine
from sdcore.testing.parity import Recorder, difference, ours, theirs
from sdcore.testing.tiny import tiny_folder

from .helpers import Quiet, config, needs_lora, pictures

FIELDS: dict[str, Any] = {"prompt": "a <blob> cat", "height": 32, "width": 32, "guidance_scale": 3.0}


def _learn(tmp_path: Path, layout: str, family: str = "sd1") -> list[Path]:
    """The files of a pivotal tuning of two words, without class pictures."""
    both = [
        Subject(path=str(pictures(tmp_path / name, seed=n)), token=f"<{name}>", class_name="cat")
        for n, name in enumerate(("blob", "lump"))
    ]
    one = Pivotal(subjects=both, prior_weight=0, word_learning_rate=0.1, vectors=2, lora={"layout": layout})
    plan = config(tmp_path / "out", one, family=family, steps=2, optimizer={"learning_rate": 0.05})
    return list(train(plan, say=Quiet(), progress=False).files)


@needs_lora
@pytest.mark.parametrize(("layout", "family"), [("diffusers", "sd1"), ("peft", "sd1"), ("diffusers", "sdxl")])
def test_diffusers_takes_both_files(tmp_path: Path, layout: str, family: str) -> None:
    files = _learn(tmp_path, layout, family)
    [lora] = [path for path in files if path.stem in ("lora", "lora-peft")]
    pipe = DiffusionPipeline.from_pretrained(tiny_folder(family))
    for path in files:
        if "-diffusers" in path.name:
            two = "_2" if "text_encoder_2" in path.name else ""
            of = {"text_encoder": getattr(pipe, f"text_encoder{two}"), "tokenizer": getattr(pipe, f"tokenizer{two}")}
            pipe.load_textual_inversion(path, **of)
    if layout == "diffusers":
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    else:
        from peft import PeftModel

        pipe.unet = PeftModel.from_pretrained(pipe.unet, lora).merge_and_unload()
    engine = Engine.load(tiny_folder(family), plugins=["lora", "textual-inversion", Recorder])
    word = f"textual-inversion:path={tmp_path / 'out' / 'blob.safetensors'}"
    mine = ours(engine, use=[f"lora:path={lora}", word], seeds=[1], steps=2, **FIELDS)
    assert difference(mine, theirs(pipe, [1], num_inference_steps=2, **FIELDS)) <= 1e-5
    assert difference(mine, ours(engine, use=[f"lora:path={lora}"], seeds=[1], steps=2, **FIELDS)) > 1e-3


@needs_lora
def test_no_word_is_lost_in_any_layout(tmp_path: Path) -> None:
    beside = ["blob-diffusers", "blob", "lump-diffusers", "lump"]
    for layout, wanted in {
        "kohya": ["lora"],
        "both": [*beside, "lora", "lora-peft"],
        "diffusers": [*beside, "lora"],
        "peft": [*beside, "lora-peft"],
    }.items():
        files = {path.stem: path for path in _learn(tmp_path / layout, layout)}
        assert sorted(files) == sorted(wanted)
        bundled: dict[str, Any] = {}
        if "lora" in files:
            bundled = {key: value for key, value in load_file(files["lora"]).items() if key.startswith("bundle_emb")}
        assert len(bundled) == (2 if layout in ("kohya", "both") else 0)
        if layout == "both":
            for name in ("blob", "lump"):
                [vectors] = read_embedding(files[name]).vectors.values()
                assert torch.equal(bundled[f"bundle_emb.<{name}>.string_to_param.*"], vectors)


def test_every_word_has_a_file_of_its_own(tmp_path: Path) -> None:
    words = {word: {"text_encoder": torch.full((1, 4), float(n))} for n, word in enumerate(("<A>", "a", "lora", "a-2"))}
    files = list(save_words(tmp_path, words, ["a1111"], taken=["lora"]))
    assert [path.stem for path in files] == ["A", "a-2", "lora-2", "a-2-2"]
    assert [read_embedding(path).word for path in files] == list(words)


def test_the_same_words_make_the_same_bytes(tmp_path: Path) -> None:
    words = {"<blob>": {"text_encoder": torch.arange(8.0).reshape(2, 4)}}
    about = {f"ss_{number}": f"\u00e9{number}" for number in range(12)}
    seen = set()
    for number in range(4):
        path = tmp_path / f"{number}.safetensors"
        save_file({"lora_unet_x.alpha": torch.ones(3)}, path, about)
        bundle(path, words)
        [word] = save_embedding(tmp_path / f"word-{number}.safetensors", "<blob>", words["<blob>"])
        seen.add((path.read_bytes(), word.read_bytes()))
    assert len(seen) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == about
        assert torch.equal(file.get_tensor("bundle_emb.<blob>.string_to_param.*"), words["<blob>"]["text_encoder"])
