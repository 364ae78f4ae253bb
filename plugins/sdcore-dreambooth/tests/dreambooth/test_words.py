"""Textual inversion and pivotal tuning: words are learnt, saved, and mean in the engine what they meant in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sdcore_dreambooth import DreamBooth, LearnWord, Pivotal, TextualInversion, read_embedding
from sdcore_dreambooth.bundles import bundle
from sdcore_dreambooth.new_words import first_vectors
from sdcore_train import train

from sdcore import Engine
from sdcore.events import Stepped
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora

from .helpers import Quiet, Spy, config, needs_lora, pictures

FIELDS: dict[str, Any] = {"seed": 1, "steps": 2, "height": 32, "width": 32, "output": "latent"}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_word_is_learnt_and_nothing_else_changes(tmp_path: Path, family: str) -> None:
    model = load_model(tiny_folder(family), device="cpu", dtype="float32")
    before = {f"{n}.{k}": v.clone() for n, part in model.components.items() for k, v in part.state_dict().items()}
    word = LearnWord(path=str(pictures(tmp_path / "cat")), word="<blob>", initial="cat", vectors=2)
    plan = config(tmp_path / "out", word, family=family, steps=3, optimizer={"learning_rate": 0.05})
    result = train(plan, model=model, say=Quiet(), progress=False)
    after = {f"{n}.{k}": v for n, part in model.components.items() for k, v in part.state_dict().items()}
    assert all(torch.equal(before[key], after[key]) for key in before)
    found = read_embedding(result.files[0])
    assert found.word == "<blob>"
    assert len(found.vectors) == len(model.text_encoders)
    for encoder, vectors in zip(model.text_encoders, found.vectors.values(), strict=True):
        table = encoder.get_input_embeddings().weight
        start = table[model.tokenizers[0]("cat", add_special_tokens=False).input_ids].detach()
        assert 1e-3 < float((vectors - start).abs().max()) <= 3 * 0.05 * 1.01
    # every file is one that the engine reads; of SDXL, those of diffusers hold an encoder each
    for path in result.files:
        assert read_embedding(path).word == "<blob>"
    use = [TextualInversion(path=result.files[0])]
    engine = Engine.load(tiny_folder(family))
    assert not torch.equal(
        engine.generate("a <blob>", use=use, **FIELDS).latents, engine.generate("a cat cat", **FIELDS).latents
    )


def test_it_begins_as_the_words_that_are_named(tmp_path: Path) -> None:
    """Without a step, the new word and the known one give the same picture."""
    word = LearnWord(path=str(pictures(tmp_path / "cat")), word="<blob>", initial="red cat", vectors=2)
    plan = config(tmp_path / "out", word, optimizer={"learning_rate": 0.0})
    result = train(plan, say=Quiet(), progress=False)
    engine = Engine.load(tiny_folder("sd1"))
    new = engine.generate("a <blob>", use=[TextualInversion(path=result.files[0])], **FIELDS).latents
    assert torch.equal(new, engine.generate("a red cat", **FIELDS).latents)


def test_vectors_without_words_are_like_the_vocabulary() -> None:
    table = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)) * 0.3 + 2
    found = first_vectors(table, [], 64, torch.Generator().manual_seed(1))
    assert found.shape == (64, 16)
    assert abs(float(found.mean()) - 2) < 0.05
    assert abs(float(found.std()) - 0.3) < 0.05


def test_the_training_sees_what_the_engine_sees(tmp_path: Path) -> None:
    """The context of a caption with the word is that of the engine with the file."""
    word = LearnWord(
        path=str(pictures(tmp_path / "cat")), word="<blob>", initial="dog", prompts="the [token] on a house"
    )
    plan = config(tmp_path / "out", word, "spy", steps=2, optimizer={"learning_rate": 0.05})
    Spy.seen.clear()
    result = train(plan, plugins=[Spy], say=Quiet(), progress=False)
    assert set(Spy.seen[0].batch.captions) == {"the <blob> on a house"}
    engine = Engine.load(tiny_folder("sd1"))
    seen: list[torch.Tensor] = []

    def keep(event: Any) -> None:
        if isinstance(event, Stepped):
            seen.append(event.run.conditioning["cond"].context)

    use = [TextualInversion(path=result.files[0])]
    engine.generate(
        "the <blob> on a house",
        use=use,
        on_event=keep,
        **FIELDS,
    )
    again = config(
        tmp_path / "again", word, "spy", steps=3, optimizer={"learning_rate": 0.05}
    )  # its third step sees what two steps made
    Spy.seen.clear()
    train(again, plugins=[Spy], say=Quiet(), progress=False)
    context = Spy.seen[2].conditioning.context[:1].detach()
    assert float((context - seen[-1]).abs().max()) <= 1e-5


@pytest.mark.parametrize("caption", [None, "", " "])
def test_pictures_of_a_source_without_captions_get_built_in_ones(tmp_path: Path, caption: str | None) -> None:
    folder = pictures(tmp_path / "cat")
    (folder / "0.txt").write_text("a [token] on a house")
    source = {"path": str(folder)} | ({} if caption is None else {"caption": caption})
    word = LearnWord(word="<blob>", kind="style")
    Spy.seen.clear()
    train(config(tmp_path / "out", word, "spy", data=source, batch_size=3), plugins=[Spy], say=Quiet(), progress=False)
    captions = Spy.seen[0].batch.captions
    assert "a <blob> on a house" in captions
    assert sum(caption.endswith("in the style of <blob>") for caption in captions) == 2


def test_words_stop_where_they_are_told_to(tmp_path: Path) -> None:
    one = Pivotal(
        path=str(pictures(tmp_path / "cat")),
        token="<blob>",
        class_name="cat",
        mode="full",
        prior_weight=0,
        words_until=0.5,
    )
    files = []
    for steps, name in ((4, "long"), (2, "short")):
        options = one if steps == 4 else one.model_copy(update={"words_until": 1.0})
        result = train(config(tmp_path / name, options, steps=steps), say=Quiet(), progress=False)
        files.append(next(path for path in result.files if path.suffix == ".safetensors"))
    assert torch.equal(load_file(files[0])["emb_params"], load_file(files[1])["emb_params"])
    begin = load_model(tiny_folder("sd1"), device="cpu", dtype="float32")
    table = begin.text_encoders[0].get_input_embeddings().weight
    start = table[begin.tokenizers[0]("cat", add_special_tokens=False).input_ids]
    assert not torch.equal(load_file(files[0])["emb_params"], start)


def test_a_full_pivotal_tuning_gives_a_model_and_a_word(tmp_path: Path) -> None:
    one = Pivotal(
        path=str(pictures(tmp_path / "cat")),
        token="<blob>",
        class_name="cat",
        mode="full",
        class_count=2,
        class_steps=1,
    )
    result = train(config(tmp_path / "out", one, steps=2), say=Quiet(), progress=False)
    word, other, folder = sorted(result.files, key=lambda path: (path.is_dir(), len(path.name)))
    assert torch.equal(load_file(word)["emb_params"], load_file(other)["<blob>"])
    latents = Engine.load(folder).generate("a <blob> cat", use=[TextualInversion(path=word)], **FIELDS).latents
    assert bool(latents.isfinite().all())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_loras_file_takes_words_in(tmp_path: Path, family: str) -> None:
    engine = Engine.load(tiny_folder(family))
    path = Path(tiny_lora(tmp_path / "style.safetensors", engine, scale=0.2) or tmp_path / "style.safetensors")
    before = load_file(path)
    vectors = {
        name: torch.randn(2, part.config.hidden_size, generator=torch.Generator().manual_seed(1))
        for name, part in engine.model.components.items()
        if name.startswith("text_encoder")
    }
    alone = engine.generate("a <blob> cat", use=[f"lora:path={path}"], **FIELDS).latents
    bundle(path, {"<blob>": vectors})
    after = load_file(path)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert len(after) == len(before) + len(vectors)
    once = path.read_bytes()
    bundle(path, {"<blob>": vectors})
    assert path.read_bytes() == once
    together = engine.generate("a <blob> cat", use=[f"lora:path={path}"], **FIELDS).latents
    assert not torch.equal(alone, together)
    ignored = engine.generate("a <blob> cat", use=[f"lora:path={path},words=false"], **FIELDS).latents
    assert torch.equal(alone, ignored)


@needs_lora
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_one_file_gives_the_word_and_the_lora(tmp_path: Path, family: str) -> None:
    one = Pivotal(path=str(pictures(tmp_path / "cat")), token="<blob>", class_name="cat", class_count=2, class_steps=1)
    plan = config(tmp_path / "out", one, family=family, steps=2, optimizer={"learning_rate": 0.05})
    result = train(plan, say=Quiet(), progress=False)
    [path] = [path for path in result.files if path.suffix == ".safetensors"]
    engine = Engine.load(tiny_folder(family))
    with_word = engine.generate("a <blob> cat", use=[f"lora:path={path}"], **FIELDS).latents
    without = engine.generate("a <blob> cat", use=[f"lora:path={path},words=false"], **FIELDS).latents
    plain = engine.generate("a <blob> cat", **FIELDS).latents
    assert not torch.equal(with_word, without)
    assert not torch.equal(without, plain)


@needs_lora
def test_averaged_words_are_what_is_written(tmp_path: Path) -> None:
    one = Pivotal(
        path=str(pictures(tmp_path / "cat")), token="<blob>", class_name="cat", prior_weight=0, word_learning_rate=0.1
    )
    table = load_model(tiny_folder("sd1"), device="cpu", dtype="float32").text_encoders[0].get_input_embeddings().weight
    moved = []
    for ema in ({}, {"ema": {"decay": 0.999, "warmup": False}}):
        result = train(config(tmp_path / str(len(moved)), one, steps=2, **ema), say=Quiet(), progress=False)
        [path] = [path for path in result.files if path.suffix == ".safetensors"]
        vectors = load_file(path)["bundle_emb.<blob>.string_to_param.*"]
        moved.append(float((vectors - table).abs().max(dim=1).values.min()))
    assert moved[0] > 0.05
    assert moved[1] < 0.01


def test_options_say_what_is_wrong() -> None:
    for wrong, fields in {
        "one word": {"word": "a b"},
        "initial is empty": {"word": "<a>", "initial": " "},
        r"no \[token\]": {"word": "<a>", "prompts": "a cat"},
    }.items():
        with pytest.raises(ValueError, match=wrong):
            LearnWord(**fields)
    with pytest.raises(ValueError, match="has no option 'vectors'"):
        DreamBooth(path="x", token="a", class_name="b", vectors=2)
