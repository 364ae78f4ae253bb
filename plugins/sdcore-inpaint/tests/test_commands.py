"""``sdcore inpaint`` and ``sdcore outpaint``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdcore import Record
from sdcore.cli import main
from sdcore.images import load_image
from sdcore.picture_files import read_record
from sdcore.testing.tiny import tiny_folder


@pytest.fixture
def place(tmp_path: Path, picture: Any, blob: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a picture and a mask."""
    picture(40, 36).save(tmp_path / "photo.png")
    blob(40, 36).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags() -> list[str]:
    return ["--model", str(tiny_folder("sd1")), "--steps", "2", "--scheduler", "ddim", "--seed", "3", "--quiet"]


def use(record: Record) -> dict[str, Any]:
    (entry,) = record.request["use"]
    options: dict[str, Any] = entry["options"]
    return options


@pytest.mark.parametrize(
    "line",
    [
        ["photo.png", "a red cat", "--mask", "mask.png"],
        ["photo.png", "--mask", "mask.png", "a red cat"],
        ["--mask", "mask.png", "--feather", "2", "photo.png", "a red cat"],
    ],
)
def test_inpaint(place: Path, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = [*line, "-o", "out.png", "--only-masked", "--padding", "4", "--softness", "soft", "--sheet", "sheet.png"]
    assert main(["inpaint", *out, *flags()]) == 0
    assert capsys.readouterr().out.split() == ["out.png", "sheet.png"]
    image, before, mask = (np.asarray(load_image(place / name)) for name in ("out.png", "photo.png", "mask.png"))
    assert image.shape == (36, 40, 3)
    assert (image != before)[mask > 0].any()
    record = read_record(place / "out.png")
    assert record.request["prompt"] == "a red cat"
    assert record.request["strength"] == 1.0
    options = use(record)
    assert (options["only_masked"], options["padding"], options["softness"]) == (True, 4, "soft")
    assert load_image(place / "sheet.png").width > 3 * 36


def test_outpaint(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["outpaint", "photo.png", "a red cat", "--left", "9", "--top", "7", "--overlap", "3", "--strength", "0.9"]
    assert main([*line, "-o", "wide.png", "--sheet", "sheet.webp", *flags()]) == 0
    assert capsys.readouterr().out.split() == ["wide.png", "sheet.webp"]
    wide, before = load_image(place / "wide.png"), load_image(place / "photo.png")
    assert wide.size == (49, 43)
    assert wide.crop((12, 10, 49, 43)).tobytes() == before.crop((3, 3, 40, 36)).tobytes()
    assert read_record(place / "wide.png").request["strength"] == 0.9
    canvas = ["--canvas-width", "60", "--anchor", "left", "-o", "canvas.png"]
    assert main(["outpaint", "photo.png", "a red cat", *canvas, *flags()]) == 0
    assert load_image(place / "canvas.png").size == (60, 36)


def test_other_plugins_can_be_used_as_well(place: Path) -> None:
    (place / "grey.py").write_text(
        "from PIL import ImageOps\n"
        "from sdcore import Plugin, hookimpl, ports\n\n"
        "class Grey(Plugin):\n"
        "    name = 'grey'\n\n"
        "    @hookimpl\n"
        "    def decode(self, run):\n"
        "        return ports.image(lambda picture, image: ImageOps.grayscale(image).convert('RGB'))\n"
    )
    line = ["inpaint", "photo.png", "a red cat", "--mask", "mask.png", "--plugin", "grey.py", "--use", "grey"]
    assert main([*line, "-o", "out.png", *flags()]) == 0
    pixels = np.asarray(load_image(place / "out.png"))
    assert (pixels[..., 0] == pixels[..., 1]).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["inpaint", "photo.png", "a", "--mask", "photo.png"], "colours"),
        (["inpaint", "photo.png", "a", "--mask", "no.png"], "no file 'no.png'"),
        (["inpaint", "no.png", "a", "--mask", "mask.png"], "no file 'no.png'"),
        (["inpaint", "photo.png", "a", "--mask", "mask.png", "b"], "what is 'b'"),
        (["inpaint", "photo.png", "a"], "--mask"),
        (["inpaint", "photo.png", "a", "--mask", "mask.png", "--softness", "fluffy"], "softness"),
        (["outpaint", "photo.png", "a"], "nothing is to grow"),
        (["outpaint", "photo.png", "a", "--canvas-width", "8"], "not larger"),
        (["outpaint", "photo.png", "a", "--left", "9", "--sheet", "sheet.txt"], "sheet.txt"),
    ],
)
def test_mistakes(place: Path, line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "-o", "out.png", *flags()]) != 0
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (place / "out.png").exists()


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("inpaint", "outpaint"):
        assert main([command, "--help"]) == 0
        assert "PICTURE" in capsys.readouterr().out
