"""``sdcore watermark bench``: the figures mean what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sdcore_watermark import Key
from sdcore_watermark.bench import attacks, regeneration, subjects
from sdcore_watermark.bench.averaging import averaging
from sdcore_watermark.bench.null import false_alarms
from sdcore_watermark.bench.plot import colour, plot

from sdcore import Engine
from sdcore.cli import main

Photo = Callable[..., Image.Image]


@pytest.mark.parametrize("name", [name for name in attacks.ATTACKS if name not in ("none", "noise+nlm")])
def test_every_attack_changes_the_picture_and_is_repeatable(photo: Photo, name: str) -> None:
    image = photo(96)
    before = image.tobytes()
    first, second = (attacks.ATTACKS[name](image, 3) for _ in range(2))
    assert first.mode == "RGB"
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != before
    assert image.tobytes() == before


def test_command(tmp_path: Path, photo: Photo, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        photo(128, number).save(tmp_path / f"{number}.png")
    line = ["--images", str(tmp_path), "--schemes", "spread,dwtdct", "--attacks", "none,jpeg50,noise25"]
    out = ["--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "out"), "--clean", "20", "--search", "fast"]
    assert main(["watermark", "bench", *line, *out]) == 0
    assert "jpeg50" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    cells = report["schemes"]["spread"]["attacks"]
    assert cells["none"]["tpr"] == 1.0
    assert cells["none"]["bit_accuracy"] == 1.0
    assert cells["none"]["psnr"] is None
    assert 15 < cells["noise25"]["psnr"] < 25
    assert report["schemes"]["spread"]["quality"]["psnr_min"] >= 39.9
    assert report["schemes"]["dwtdct"]["quality"]["unmarkable"] == 2
    assert report["schemes"]["dwtdct"]["attacks"]["none"]["tpr"] is None
    assert report["false_alarms_fast"]["crops"] == 20
    with Image.open(tmp_path / "out" / "bench.png") as plotted:
        assert plotted.width > 300
    assert main(["watermark", "bench", *line, *out]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_run_that_was_cut_goes_on(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        photo(64, number).save(tmp_path / "in" / f"{number}.png")
    kept, report = tmp_path / "kept.jsonl", tmp_path / "r.json"
    line = ["watermark", "bench", "--images", str(tmp_path / "in"), "--schemes", "spread", "--attacks", "none,jpeg75"]
    line += ["--search", "fast", "--clean", "3", "--quiet", "--resume", str(kept), "--json", str(report), "--overwrite"]
    assert main([*line, "--limit", "1"]) == 0
    whole = kept.read_text()
    kept.write_text(whole[:-40])  # cut while the last figure was being written: that of the clean crops
    looked: list[int] = []
    detect = subjects.Ours.detect
    monkeypatch.setattr(subjects.Ours, "detect", lambda self, *args: (looked.append(args[1]), detect(self, *args))[1])
    assert main(line) == 0
    assert len(looked) == 2  # the second picture, attacked in two ways
    first = json.loads(report.read_text())
    assert first["schemes"]["spread"]["attacks"]["jpeg75"]["pictures"] == 2
    assert main(line) == 0
    assert len(looked) == 2
    assert json.loads(report.read_text()) == first
    assert main([*line, "--psnr", "36"]) == 0
    assert len(looked) == 6


def test_wrong_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "bench", "--images", str(tmp_path)]) == 2
    assert "no pictures" in capsys.readouterr().err
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert main(["watermark", "bench", "--images", str(tmp_path), "--attacks", "jpg"]) == 2
    assert "no attack 'jpg'" in capsys.readouterr().err


def test_thirty_of_32_bits_are_needed_at_one_in_a_million() -> None:
    assert subjects.by_bits(0b11, 0, 1e-6).found
    assert not subjects.by_bits(0b111, 0, 1e-6).found
    assert subjects.by_bits(0, 0, 1e-6).exact


def test_false_alarms(photo: Photo) -> None:
    told = false_alarms([photo(256), photo(256, 1)], 40, "fast", lambda: None)
    assert told["share_at_or_below"]["0.001"] == 0
    assert told["reads"] == 0
    assert 3 < told["score_max"] < 6.5


class Additive:
    """A mark that is the same in every picture: what the averaging attack is made for."""

    name = "additive"

    def __init__(self) -> None:
        self.pattern = np.random.default_rng(7).normal(0, 3, (256, 256, 1)).astype(np.float32)

    def embed(self, image: Image.Image, payload: int) -> Image.Image:
        pixels = np.asarray(image, np.float32) + self.pattern[: image.height, : image.width]
        return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))

    def detect(self, image: Image.Image, payload: int) -> subjects.Outcome:
        pixels = np.asarray(image, np.float32).mean(-1)
        pattern = self.pattern[: image.height, : image.width, 0]
        high = pixels - (np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) / 2
        score = float((high * pattern).mean() / high.std() / pattern.std()) * pixels.size**0.5
        return subjects.Outcome(score > 4, None, False, False)


def test_averaging_breaks_a_fixed_pattern_and_not_ours(photo: Photo, key: Key) -> None:
    pictures = [photo(512, number) for number in range(3)]
    fixed = averaging(Additive(), pictures, [1, 2, 3], 60, lambda: None)
    assert fixed["forged"] >= 0.7
    ours = averaging(subjects.Ours("spread", key, 40.0, 1e-6, "fast"), pictures, [1, 2, 3], 24, lambda: None)
    assert ours["forged"] == 0.0
    assert ours["removed"] == 0.0


def test_the_plot_shows_every_cell() -> None:
    cell = {"tpr": 0.5, "exact": 0.25}
    report = {"fpr": 1e-6, "schemes": {"a": {"attacks": {"x": cell, "y": {"tpr": None, "exact": None}}}}}
    assert colour(1.0)[1] > colour(0.0)[1]
    image = plot(report)
    shown = {image.getpixel((160, 50)), image.getpixel((160, 72))}
    assert shown == {colour(0.5), colour(None)}


def test_regeneration_draws_again(mini: Engine, photo: Photo) -> None:
    drawn = regeneration.regenerations(mini)
    once, again = drawn["vae"](photo(64), 1), drawn["img2img0.5"](photo(64), 1)
    assert once.size == again.size == (64, 64)
    distance = [np.abs(np.asarray(image, float) - np.asarray(photo(64), float)).mean() for image in (once, again)]
    assert 0 < distance[0] < distance[1]
