"""What is refused before any work, and what is only told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sdcore_dreambooth import DreamBooth, LearnWord, Subject
from sdcore_dreambooth.tokens import is_known
from sdcore_train import ConfigError, train
from sdcore_train.data import DataError

from sdcore.models.tokenizer import clip_tokenizer

from .helpers import Quiet, config, pictures


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "no subject"),
        ({"path": "x", "class_name": "cat"}, "token .*'sks'"),
        ({"path": "x", "token": "sks"}, "class_name"),
        ({"token": "sks", "class_name": "cat"}, "path"),
        ({"path": "x", "token": " ", "class_name": "cat"}, "token is empty"),
        ({"path": "x", "token": "two words", "class_name": "cat"}, "one word"),
        ({"path": "x", "token": "sks", "class_name": ""}, "class_name is empty"),
        ({"path": "x", "token": "sks", "class_name": "cat", "prompts": "a cat"}, r"no \[token\]"),
        ({"path": "x", "token": "sks", "class_name": "cat", "class_prompts": "a [token] cat"}, "class alone"),
    ],
)
def test_options_say_what_is_missing(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        DreamBooth(**fields)


def test_two_subjects_of_one_token() -> None:
    with pytest.raises(ValueError, match="both have the token 'SKS'"):
        DreamBooth(
            subjects=[
                Subject(path="x", token="sks", class_name="cat"),
                Subject(path="y", token="SKS", class_name="dog"),
            ]
        )


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"path": "nowhere"}, "there is no folder"),
        ({"path": "empty"}, "holds no pictures"),
        ({"class_folder": "empty"}, "class pictures for 'zwx': the folder"),
        ({"class_scheduler": "eular"}, "class pictures cannot be drawn.*euler"),
    ],
)
def test_nothing_is_drawn_before_it_is_said(tmp_path: Path, change: dict[str, Any], wrong: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {key: str(tmp_path / value) if "scheduler" not in key else value for key, value in change.items()}
    fields = {"path": str(pictures(tmp_path / "cat")), "token": "zwx", "class_name": "cat", "mode": "full", **places}
    with pytest.raises(ConfigError, match=wrong):
        train(config(tmp_path / "out", DreamBooth(**fields)), say=Quiet(), progress=False)
    assert not (tmp_path / "out" / "class-pictures").exists()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"pictures": {"height": 36}}, "36x36.*multiples of 16"),
        ({"data": {"path": "bare"}}, "bare: 3 of 3 pictures have no caption"),
        ({"pictures": {"height": 64, "small": "error"}}, "3 pictures are smaller"),
    ],
)
def test_nothing_is_drawn_before_the_other_pictures_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "bare")
    one = DreamBooth(path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", mode="full")
    with pytest.raises(DataError, match=wrong):
        train(config(tmp_path / "out", one, **fields), say=Quiet(), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_refiner_learns_no_subject(tmp_path: Path) -> None:
    folder = str(pictures(tmp_path / "cat"))
    for one in (
        DreamBooth(path=folder, token="zwx", class_name="cat", mode="full"),
        LearnWord(path=folder, word="<blob>"),
    ):
        with pytest.raises(ConfigError, match="refiner"):
            train(config(tmp_path / "out", one, family="refiner"), say=Quiet(), progress=False)


def test_a_token_that_the_model_knows_is_told(tmp_path: Path) -> None:
    for token, told in (("dog", True), ("zwx", False)):
        say = Quiet()
        one = DreamBooth(
            path=str(pictures(tmp_path / "cat")), token=token, class_name="cat", mode="full", prior_weight=0
        )
        train(config(tmp_path / token, one), say=say, progress=False)
        assert (f"{token!r} is a word that the model knows" in say) is told


def test_rare_and_common_words_of_clip() -> None:
    tokenizer = clip_tokenizer(77, "<|endoftext|>")
    assert [word for word in ("cat", "statue", "teapot", "sks", "ohwx", "zwx") if is_known(tokenizer, word)] == [
        "cat",
        "statue",
        "teapot",
    ]


def test_captions_that_do_not_name_the_word_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "cat")
    for number, caption in enumerate(("a [token] on a table", "the <blob>", "a red box")):
        (folder / f"{number}.txt").write_text(caption)
    word = LearnWord(path=str(folder), word="<blob>")
    with pytest.raises(ConfigError, match=r"1 of 3 captions name neither \[token\] nor '<blob>', such as 'a red box'"):
        train(config(tmp_path / "out", word), say=Quiet(), progress=False)
    (folder / "2.txt").unlink()
    train(config(tmp_path / "out", word), say=Quiet(), progress=False)
