"""``sdcore replay``: what it says, what it writes, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sdcore.images import load_image
from sdcore.picture_files import encode_image, read_record

Cli = Callable[..., tuple[int, str, str]]
Draw = Callable[..., list[str]]


def test_identical(cli: Cli, draw: Draw, model: str) -> None:
    draw("--seed", 3, "--count", 2, "-o", "a.png")
    assert cli("replay", "a-2.png", "--model", model) == (0, "identical\n", "")
    assert cli("replay", "a-2.png", "--model", model, "-o", "b.webp") == (0, "identical\nb.webp\n", "")
    assert read_record("b.webp") == read_record("a-2.png")
    code, _, err = cli("replay", "a-2.png", "--model", model, "-o", "b.webp")
    assert code == 1
    assert "b.webp exists already" in err
    data = json.loads(cli("replay", "a-2.png", "--model", model, "--json")[1])
    assert (data["identical"], data["edited"], data["differences"]) == (True, False, [])


def test_a_difference_is_said(cli: Cli, draw: Draw, model: str) -> None:
    draw("--seed", 3, "-o", "a.png")
    record = read_record("a.png")
    other = record.model_copy(update={"software": {**record.software, "torch": "1.0"}, "pixels_sha256": "0" * 64})
    Path("b.png").write_bytes(encode_image(load_image("a.png"), "png", other))
    code, out, err = cli("replay", "b.png", "--model", model)
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first == "not identical: seed 3 gives other pixels here"
    assert second == f"  torch 1.0 made it, {record.software['torch']} is here"
    same = record.model_copy(update={"platform": "Plan9"})
    Path("c.png").write_bytes(encode_image(load_image("a.png"), "png", same))
    code, out, err = cli("replay", "c.png", "--model", model)
    assert (code, out) == (0, "identical\n")
    assert err.startswith("  it was made on Plan9")


def test_pixels_that_were_changed(cli: Cli, draw: Draw, model: str) -> None:
    draw("--seed", 3, "-o", "a.png")
    Path("b.png").write_bytes(encode_image(load_image("a.png").transpose(0), "png", read_record("a.png")))
    code, out, _ = cli("replay", "b.png", "--model", model)
    assert code == 1
    assert out.startswith("edited: ")


def test_input_pictures_must_be_allowed(cli: Cli, draw: Draw, model: str) -> None:
    draw("--seed", 3, "-o", "a.png")
    draw("--seed", 4, "--image", "a.png", "--strength", 0.7, "--steps", 4, "-o", "b.jpg")
    code, out, err = cli("replay", "b.jpg", "--model", model)
    assert (code, out) == (1, "")
    assert "a.png (sha256 " in err
    assert "--allow" in err
    assert cli("replay", "b.jpg", "--model", model, "--allow", ".") == (0, "identical\n", "")


def test_plugins_in_a_file(cli: Cli, draw: Draw, model: str, glow: Path) -> None:
    draw("--seed", 3, "-o", "a.png", "--plugin", glow, "--use", "glow:strength=0.25")
    code, _, err = cli("replay", "a.png", "--model", model)
    assert code == 1
    assert "glow; to have them: give the file that glow is in (--plugin FILE)" in err
    assert cli("replay", "a.png", "--model", model, "--plugin", glow) == (0, "identical\n", "")
    glow.write_text(glow.read_text().replace("1 - glow", "0.9 - glow"))
    code, out, _ = cli("replay", "a.png", "--model", model, "--plugin", glow)
    assert code == 1
    assert "  plugin glow file " in out


def test_what_is_no_picture(cli: Cli) -> None:
    Path("a.png").write_text("no")
    for name in ("a.png", "missing.png", "."):
        code, out, err = cli("replay", name, "--model", "never loaded")
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert "never loaded" not in err
