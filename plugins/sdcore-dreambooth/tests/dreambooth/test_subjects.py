"""Tokens, classes and captions; several subjects; what is trained and what is left alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from sdcore_dreambooth import DreamBooth, Subject
from sdcore_train import ConfigError, train

from sdcore import Engine
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .helpers import Quiet, Spy, config, needs_lora, pictures

PLAIN: dict[str, Any] = {"mode": "full", "prior_weight": 0}


def _spied(plan: Any, **how: Any) -> list[Any]:
    Spy.seen.clear()
    train(plan, plugins=[Spy], say=how.pop("say", Quiet()), progress=False, **how)
    return list(Spy.seen)


def test_captions_are_filled_in(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "cat")
    (folder / "0.txt").write_text("the [token] [class] on a house")
    one = DreamBooth(path=str(folder), token="zwx", class_name="cat face", prompts="a photo of [token]", **PLAIN)
    seen = _spied(config(tmp_path / "out", one, "spy", batch_size=3))
    assert sorted(seen[0].batch.captions) == ["a photo of zwx", "a photo of zwx", "the zwx cat face on a house"]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a photo of a [token] [class], 3d", "a photo of a red cat, 3d"),
        ("[class] [token]", "red cat"),
        ("a photo of [token]", "a photo of red cat"),
        ("a [token], sitting", "a red cat, sitting"),
        ("[token]", "red cat"),
        ("a [token] Red Cat .", "a Red Cat."),
        ("a [token] in the red cathedral", "a red cat in the red cathedral"),
    ],
)
def test_a_class_prompt_always_names_the_class(prompt: str, wanted: str) -> None:
    assert Subject(path="x", token="zwx", class_name="red cat", prompts=prompt).about_class == (wanted,)


def test_one_of_several_prompts_is_drawn_for_each_visit(tmp_path: Path) -> None:
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        prompts=("a [token] [class]", "the [token] [class]"),
        **PLAIN,
    )
    plan = config(tmp_path / "out", one, "spy", steps=4)
    captions = [outcome.batch.captions for outcome in _spied(plan)]
    assert {caption for some in captions for caption in some} == {"a zwx cat", "the zwx cat"}
    # and the same again: drawn from the seed and the step, from nothing else
    assert captions == [o.batch.captions for o in _spied(plan.model_copy(update={"output": str(tmp_path / "again")}))]


def test_captions_without_the_token_are_told(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "cat")
    (folder / "0.txt").write_text("a cat on a house")
    say = Quiet()
    one = DreamBooth(path=str(folder), token="zwx", class_name="cat", **PLAIN)
    train(config(tmp_path / "out", one), say=say, progress=False)
    assert "'a cat on a house'" in say


def test_several_subjects_each_by_its_token(tmp_path: Path) -> None:
    subjects = [
        Subject(path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat"),
        Subject(path=str(pictures(tmp_path / "dog", seed=1)), token="ohwx", class_name="dog"),
    ]
    options = DreamBooth(subjects=subjects, mode="full", class_count=2, class_steps=1)
    seen = _spied(config(tmp_path / "out", options, "spy", steps=6))
    by_role: dict[str, set[str]] = {}
    for outcome in seen:
        assert outcome.batch.roles[2:] == ("class", "class")
        for role, caption in zip(outcome.batch.roles, outcome.batch.captions, strict=True):
            by_role.setdefault(role, set()).add(caption)
    assert by_role == {"subject-1": {"a zwx cat"}, "subject-2": {"a ohwx dog"}, "class": {"a cat", "a dog"}}


def test_a_model_folder_that_the_engine_takes(tmp_path: Path) -> None:
    model = load_model(tiny_folder("sdxl"), device="cpu", dtype="float32")
    text = [parameter.clone() for parameter in model.text_encoders[0].parameters()]
    one = DreamBooth(path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", **PLAIN)
    plan = config(tmp_path / "out", one, family="sdxl", optimizer={"learning_rate": 1e-3})
    result = train(plan, model=model, say=Quiet(), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(text, model.text_encoders[0].parameters(), strict=True))
    fields: dict[str, Any] = {"seed": 1, "steps": 2, "height": 32, "width": 32, "output": "latent"}
    after = Engine.load(result.files[0]).generate("a zwx cat", **fields).latents
    before = Engine.load(tiny_folder("sdxl")).generate("a zwx cat", **fields).latents
    assert float((after - before).abs().max()) > 1e-3


def test_a_training_goes_on_where_it_was(tmp_path: Path) -> None:
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        prompts=("a [token] [class]", "the [token] [class]"),
        mode="full",
        class_count=3,
        class_steps=1,
        class_cache=str(tmp_path / "class"),
    )
    whole = train(config(tmp_path / "whole", one, steps=4), say=Quiet(), progress=False)
    train(config(tmp_path / "part", one, steps=2), say=Quiet(), progress=False)
    rest = train(config(tmp_path / "part", one, steps=4), resume=True, say=Quiet(), progress=False)
    names = ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
    for name in names:
        assert (whole.files[0] / name).read_bytes() == (rest.files[0] / name).read_bytes()


@needs_lora
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_lora_leaves_the_model_as_it_is(tmp_path: Path, family: str) -> None:
    files = sorted(tiny_folder(family).rglob("*.safetensors"))
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    model = load_model(tiny_folder(family), device="cpu", dtype="float32")
    weights = {
        f"{name}.{key}": value.clone()
        for name, part in model.components.items()
        for key, value in part.state_dict().items()
    }
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        text_encoder=True,
        class_count=2,
        class_steps=1,
    )
    plan = config(tmp_path / "out", one, family=family, steps=2, optimizer={"learning_rate": 0.05})
    result = train(plan, model=model, say=Quiet(), progress=False)
    after = {
        f"{name}.{key}": value for name, part in model.components.items() for key, value in part.state_dict().items()
    }
    assert after.keys() == weights.keys()
    assert all(torch.equal(weights[key], after[key]) for key in weights)
    assert before == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    [path] = [path for path in result.files if path.suffix == ".safetensors"]
    fields: dict[str, Any] = {"seed": 1, "steps": 2, "height": 32, "width": 32, "output": "latent"}
    engine = Engine.load(tiny_folder(family))
    plain = engine.generate("a zwx cat", **fields).latents
    tuned = engine.generate("a zwx cat", use=[f"lora:path={path}"], **fields).latents
    assert float((plain - tuned).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("prior", "batch", "pictures_", "wrong"), [(1, 1, {}, "batch_size is 1"), (1, 4, {"buckets": True}, "buckets")]
)
def test_batches_must_be_able_to_hold_both_kinds(
    tmp_path: Path, prior: float, batch: int, pictures_: dict[str, Any], wrong: str
) -> None:
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", mode="full", prior_weight=prior
    )
    plan = config(tmp_path / "out", one, batch_size=batch, pictures={"height": 32, **pictures_})
    with pytest.raises(ConfigError, match=wrong):
        train(plan, say=Quiet(), progress=False)
    assert not (tmp_path / "out" / "class-pictures").exists()
