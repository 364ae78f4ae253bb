"""Class pictures: drawn once, kept, gone on with, drawn anew when they are another model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sdcore_dreambooth import DreamBooth, Subject
from sdcore_train import ConfigError, dry_run, train

from sdcore import Engine, OutputError
from sdcore.picture_files import read_record
from sdcore.testing.tiny import tiny_folder

from .helpers import Quiet, config, pictures

SMALL: dict[str, Any] = {"mode": "full", "class_count": 5, "class_steps": 1, "class_batch": 2}


def _run(tmp_path: Path, name: str, say: Quiet | None = None, seed: int = 0, **options: Any) -> Path:
    """Train with a shared cache of class pictures; returns their folder."""
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        class_cache=str(tmp_path / "class"),
        **{**SMALL, **options},
    )
    model = tiny_folder("sd1", seed=seed)
    (tmp_path / "model").unlink(missing_ok=True)
    (tmp_path / "model").symlink_to(model)
    plan = config(tmp_path / name, one, model=str(tmp_path / "model"))
    train(plan, say=say or Quiet(), progress=False)
    [folder] = (tmp_path / "class").iterdir()
    return folder


def _stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.png"))}


def test_they_are_the_models_own_and_reproducible(tmp_path: Path) -> None:
    folder = _run(tmp_path, "one", class_prompts=("a cat", "the cat face"), class_seed=7, class_guidance_scale=2.0)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["a cat", "the cat face", "a cat", "the cat face", "a cat"]
    record = read_record(folder / lines[3]["file_name"])
    assert (record.seed, record.request["prompt"]) == (10, "the cat face")
    again = Engine.load(tiny_folder("sd1")).generate(
        "the cat face", seed=10, steps=1, guidance_scale=2.0, height=32, width=32
    )
    assert again.record.pixels_sha256 == record.pixels_sha256


def test_they_are_not_drawn_again(tmp_path: Path) -> None:
    before = _stamps(_run(tmp_path, "one"))
    say = Quiet()
    assert _stamps(_run(tmp_path, "two", say)) == before
    assert "drawing" not in say
    assert len(before) == 5


def test_an_interrupted_drawing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sdcore_dreambooth.class_pictures as module

    written: list[str] = []
    real = module.write_atomic

    def killed(path: Path, data: bytes, **how: Any) -> Path:
        if path.suffix == ".png":
            if len(written) == 3:
                raise OutputError("the disk is full")
            written.append(path.name)
        return real(path, data, **how)

    monkeypatch.setattr(module, "write_atomic", killed)
    with pytest.raises(OutputError, match="full"):
        _run(tmp_path, "one")
    [folder] = (tmp_path / "class").iterdir()
    before = _stamps(folder)
    assert len(before) == 3
    assert not list(folder.glob(".*.tmp"))
    monkeypatch.undo()
    say = Quiet()
    after = _stamps(_run(tmp_path, "two", say))
    assert "drawing 2 class pictures" in say
    assert len(after) == 5
    assert {name: after[name] for name in before} == before


def test_those_of_another_model_are_drawn_anew(tmp_path: Path) -> None:
    folder = _run(tmp_path, "one")
    (folder / "mine.txt").write_text("kept")
    before = read_record(folder / "00000.png")
    say = Quiet()
    assert _run(tmp_path, "two", say, seed=1) == folder
    after = read_record(folder / "00000.png")
    assert "another model" in say
    assert after.model.components["unet"] != before.model.components["unet"]
    assert after.pixels_sha256 != before.pixels_sha256
    assert (folder / "mine.txt").read_text() == "kept"


def test_other_settings_have_another_folder(tmp_path: Path) -> None:
    _run(tmp_path, "one")
    with pytest.raises(ValueError, match="too many values"):  # two folders
        _run(tmp_path, "two", class_steps=2)
    assert len(list((tmp_path / "class").iterdir())) == 2


def test_each_size_has_a_folder(tmp_path: Path) -> None:
    """In a shared cache, those of one size stay while another is drawn."""
    cat, cache = str(pictures(tmp_path / "cat")), tmp_path / "class"
    one = DreamBooth(path=cat, token="zwx", class_name="cat", class_cache=str(cache), **{**SMALL, "class_count": 2})
    said = []
    for name, size in enumerate(({"height": 32}, {"height": 48}, {"height": 32, "width": 32}, {"height": 48})):
        say = Quiet()
        plan = config(tmp_path / str(name), one, pictures={**size, "cache": "off", "prefetch": 0})
        train(plan, say=say, progress=False)
        said.append("drawing 2 class pictures" in say)
    assert said == [True, True, False, False]
    assert len(list(cache.iterdir())) == 2


def test_a_cache_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", class_cache="~/class", **SMALL
    )
    train(config(tmp_path / "out", one), say=Quiet(), progress=False)
    assert len(list((tmp_path / "home" / "class").iterdir())) == 1


def test_fewer_and_more_may_be_wanted(tmp_path: Path) -> None:
    before = _stamps(_run(tmp_path, "one"))
    folder = _run(tmp_path, "two", class_count=2)
    assert list(_stamps(folder)) == ["00000.png", "00001.png"]
    assert len((folder / "metadata.jsonl").read_text().splitlines()) == 2
    say = Quiet()
    after = _stamps(_run(tmp_path, "three", say, class_count=6))
    assert "drawing 1 class pictures" in say
    assert {name: after[name] for name in before} == before


def test_foreign_pictures_are_left_alone(tmp_path: Path) -> None:
    folder = _run(tmp_path, "one")
    (folder / ".drawn.json").unlink()
    before = _stamps(folder)
    with pytest.raises(ConfigError, match="class_folder"):
        _run(tmp_path, "two")
    assert _stamps(folder) == before


def test_a_folder_of_the_users_is_taken_as_it_is(tmp_path: Path) -> None:
    mine = pictures(tmp_path / "mine", 4, seed=3)
    before = _stamps(mine)
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", class_folder=str(mine), **SMALL
    )
    train(config(tmp_path / "out", one), say=Quiet(), progress=False)
    assert _stamps(mine) == before
    assert not (tmp_path / "out" / "class-pictures").exists()


def test_class_pictures_of_another_model_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = tmp_path / "mine"
    mine.mkdir()
    other = Engine.load(tiny_folder("sd1", seed=1))
    for seed in range(2):
        other.generate("a cat", seed=seed, steps=1, height=32, width=32).save(mine / f"{seed}.png")
    say = Quiet()
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", class_folder="~/mine", **SMALL
    )
    train(config(tmp_path / "out", one), say=say, progress=False)
    assert "drawn by another model" in say


def test_subjects_of_one_class_share_them(tmp_path: Path) -> None:
    both = [
        Subject(path=str(pictures(tmp_path / name, seed=n)), token=name, class_name="cat")
        for n, name in enumerate(("zwx", "ohw"))
    ]
    say = Quiet()
    train(config(tmp_path / "out", DreamBooth(subjects=both, **SMALL)), say=say, progress=False)
    assert len(list((tmp_path / "out" / "class-pictures").iterdir())) == 1


def test_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    one = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        class_cache=str(tmp_path / "class"),
        **SMALL,
    )
    found = dry_run(config(tmp_path / "out", one), say=Quiet())
    assert found.pictures == 3 + 4
    assert not list((tmp_path / "class").iterdir())
