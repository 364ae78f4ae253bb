"""``sdcore watermark``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sdcore_watermark import Key

from sdcore.cli import main

Photo = Callable[..., Image.Image]


@pytest.fixture
def place(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two pictures in one folder."""
    (tmp_path / "in").mkdir()
    photo(128).save(tmp_path / "in" / "one.png")
    photo(128, 1).save(tmp_path / "in" / "two.jpg", quality=92)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_key_to_detection(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "keygen", "k.json"]) == 0
    assert "1 generations" in capsys.readouterr().out
    assert main(["watermark", "embed", "in", "--key", "k.json", "-o", "out", "--payload", "0xabc", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).name for row in rows] == ["one.png", "two.jpg"]
    assert all(row["payload"] == "00000abc" for row in rows)
    assert main(["watermark", "detect", "out", "--key", "k.json", "--json", "--search", "fast"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["payload"] for row in found] == ["00000abc"] * 2
    assert found[0]["found"] is True
    assert main(["watermark", "detect", "in", "--key", "k.json", "--search", "fast"]) == 3
    assert capsys.readouterr().out.count("not found") == 2


def test_rotation_keeps_old_marks_findable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "keygen", "k.json"]) == 0
    assert main(["watermark", "embed", "in/one.png", "--key", "k.json", "-o", "m.png"]) == 0
    assert main(["watermark", "keygen", "k.json"]) == 1
    assert main(["watermark", "keygen", "k.json", "--rotate"]) == 0
    assert len(Key.load("k.json").generations) == 2
    assert main(["watermark", "detect", "m.png", "--key", "k.json", "--search", "fast"]) == 0


def test_nothing_is_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["watermark", "keygen", "k.json"])
    before = (place / "in" / "one.png").read_bytes()
    assert main(["watermark", "embed", "in/one.png", "--key", "k.json", "-o", "in/one.png"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (place / "in" / "one.png").read_bytes() == before
    assert main(["watermark", "embed", "in/one.png", "--key", "k.json", "-o", "in/one.png", "--overwrite"]) == 0
    assert (place / "in" / "one.png").read_bytes() != before


def test_without_a_key_the_public_one_is_taken_and_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "embed", "in/one.png", "-o", "m.png"]) == 0
    assert "public key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (["detect", "in", "--key", "no.json"], "there is no key file"),
        (["detect", "in/none.png"], "none.png"),
        (["detect", ".", "--quiet"], "no pictures"),
        (["detect", "in", "--fpr", "2"], "--fpr 2"),
        (["embed", "in", "-o", "out", "--scheme", "x"], "no watermark scheme"),
    ],
)
def test_what_cannot_be_done(place: Path, capsys: pytest.CaptureFixture[str], line: list[str], match: str) -> None:
    assert main(["watermark", *line]) in (1, 2)
    assert match in capsys.readouterr().err
