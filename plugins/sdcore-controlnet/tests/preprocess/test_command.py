import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sdcore_controlnet.preprocess import preprocess_image, register_all

from sdcore import ImageError, OutputError, RequestError
from sdcore.preprocessing import Preprocessor
from sdcore.registry import Registry


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Image.Image) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    photo.resize((96, 96)).save("in.png")
    registry = Registry()
    register_all(registry)
    registry.add("preprocessor", "mine", Preprocessor("mine", "of another plugin", lambda image, options: image))
    registry.add("preprocessor", "wanting", Preprocessor("wanting", "x", lambda image, options: image, needs="a thing"))

    def call(*arguments: str) -> int:
        parser = argparse.ArgumentParser(prog="sdcore preprocess", allow_abbrev=False)
        registry.get("cli_command", "preprocess")(parser)
        args = parser.parse_args(arguments)
        return int(args.func(args) or 0)

    return call


def test_one_picture(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("canny", "in.png", "-o", "out.png", "--low", "40", "--high", "90") == 0
    assert capsys.readouterr().out == "out.png\n"
    with Image.open("out.png") as made:
        assert made.tobytes() == preprocess_image("canny", "in.png", low=40, high=90).tobytes()
    with pytest.raises(OutputError, match="exists already"):
        run("canny", "in.png", "-o", "out.png")
    assert run("canny", "in.png", "-o", "out.png", "--overwrite") == 0
    assert run("hed", "in.png", "--safe", "--resolution", "null") == 0
    assert Path("in-soft-edge.png").is_file()
    assert run("mine", "in.png", "-o", "mine.jpg") == 0


def test_folders(run: Callable[..., int], photo: Image.Image, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures").mkdir()
    for name in ("b.jpg", "a.png"):
        photo.resize((48, 64)).save(f"pictures/{name}")
    Path("pictures/notes.txt").write_text("no picture")
    assert run("blur", "pictures", "in.png", "-o", "made/") == 0
    assert [path.name for path in sorted(Path("made").iterdir())] == ["a-blur.png", "b-blur.png", "in-blur.png"]
    assert run("blur", "pictures", "-o", "made/") == 0
    assert Path("made/a-blur-2.png").is_file()
    Path("pictures/c.png").write_text("no picture")
    capsys.readouterr()
    assert run("blur", "pictures", "-o", "made/", "--overwrite") == 1
    shown = capsys.readouterr()
    assert "left out" in shown.err
    assert "c.png" in shown.err
    assert len(shown.out.splitlines()) == 2
    with pytest.raises(OutputError, match="name a folder"):
        run("blur", "pictures", "-o", "one.png")


def test_list(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    shown = capsys.readouterr().out
    assert "canny" in shown
    assert any(line.startswith("depth") and "weights" in line for line in shown.splitlines())
    assert any(line.startswith("mine") and line.endswith("yes") for line in shown.splitlines())
    assert run("--list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["canny"]["works"] is True
    assert rows["wanting"]["works"] is False


def test_sheet(run: Callable[..., int]) -> None:
    assert run("--sheet", "in.png", "-o", "sheet.png") == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 4 * 320
    with pytest.raises(RequestError, match="-o sheet"):
        run("--sheet", "in.png")


def test_what_is_wrong_is_said(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="Did you mean 'canny'"):
        run("cany", "in.png")
    with pytest.raises(RequestError, match=r"low.*got 'much'"):
        run("canny", "in.png", "--low", "much")
    with pytest.raises(ImageError, match="there is no picture or folder"):
        run("canny", "nowhere.png")
    Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ImageError, match=r"bad\.png"):
        run("canny", "bad.png", "-o", "x.png")
    assert not Path("x.png").exists()
    with pytest.raises(OutputError, match="picture format"):
        run("canny", "in.png", "-o", "out.xyz")
    with pytest.raises(SystemExit):
        run("canny", "in.png", "--sigma", "3")
    assert run() == 2
