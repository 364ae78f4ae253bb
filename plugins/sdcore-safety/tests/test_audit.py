"""The audit: its figures on vectors with a known answer, and a whole one on a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_safety.audit import metrics
from sdcore_safety.audit.conditions import Condition
from sdcore_safety.audit.spec import Spec, read_spec, without_group

from sdcore import RequestError
from sdcore.cli import main
from sdcore.testing.tiny import tiny_folder

EXAMPLE = Path(__file__).parent.parent / "examples" / "colours_and_styles.toml"


def test_the_vendi_score_counts_what_is_different() -> None:
    """One for equal vectors, n for different ones (arXiv 2210.02410, section 4.1), two for two kinds."""
    one = np.eye(6)
    assert metrics.vendi(one) == pytest.approx(6, rel=0.02)
    assert metrics.vendi(np.repeat(one[:1], 5, axis=0)) == pytest.approx(1)
    assert metrics.vendi(np.concatenate([one[[0] * 4], one[[1] * 4]])) == pytest.approx(2, rel=0.02)
    assert metrics.vendi(np.concatenate([one[[0] * 4], -one[[0] * 4]])) == pytest.approx(
        2, rel=0.02
    )  # opposites differ
    assert metrics.mean_distance(one) == pytest.approx(1)
    assert metrics.mean_distance(np.repeat(one[:1], 5, axis=0)) == pytest.approx(0)


def test_contrast_scores_lie_between_the_ends() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.normal(0, 0.1, (20, 8)), chance.normal(0, 0.1, (20, 8)) + 3
    scores = metrics.contrast_scores(np.concatenate([a, b, (a + b) / 2]), a, b)
    assert scores[:20].mean() == pytest.approx(0)
    assert scores[20:40].mean() == pytest.approx(1)
    assert scores[40:].mean() == pytest.approx(0.5)


def test_the_gap_of_paired_groups_is_surer_than_that_of_unpaired_ones() -> None:
    chance = np.random.default_rng(0)
    shared = chance.normal(0, 1.0, 40)  # what the seed does, the same in both groups
    scores = {"x": shared, "y": shared + 0.3 + chance.normal(0, 0.02, 40)}
    found = metrics.gap(scores, np.random.default_rng(0))
    assert found.value == pytest.approx(0.3, abs=0.02)
    assert 0.28 < found.low < found.value < found.high < 0.32
    alike = metrics.gap({"x": chance.normal(0, 1, 40), "y": chance.normal(0, 1, 40)}, np.random.default_rng(0))
    assert alike.low < 0.1


def test_intervals_hold_what_they_should() -> None:
    """About 95 of 100 intervals of a mean contain it."""
    chance, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = metrics.group_means({"g": chance.normal(0.4, 1.0, 30)}, chance)["g"]
        hits += found.low <= 0.4 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_lean_finds_the_group_that_is_taken_for_granted() -> None:
    chance = np.random.default_rng(0)
    centres = np.eye(3, 8) * 4
    groups = {name: metrics.directions(centre + chance.normal(0, 0.3, (10, 8)), np.zeros(8))
              for name, centre in zip("abc", centres, strict=True)}  # fmt: skip
    neutral = metrics.directions(centres[1] + chance.normal(0, 0.3, (12, 8)), np.zeros(8))
    assert metrics.nearest_groups(neutral, groups) == {"a": 0, "b": 12, "c": 0}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("a {group} apple, flat style", "an apple, flat style"),
        ("a {group} car", "a car"),
        ("an apple, {group} style, white", "an apple, style, white"),
        ("a picture, {group}, white", "a picture, white"),
    ],
)
def test_templates_without_a_group(template: str, wanted: str) -> None:
    assert without_group(template) == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"templates": ["a red car"]}, "must have {group} in it"),
        ({"groups": {"one": "x"}}, "groups"),
        ({"seeds": 1}, "at least two are needed"),
        ({"request": {"seed": 3}}, "request sets seed"),
        ({"colour": 1}, "colour"),
    ],
)
def test_mistakes_in_a_spec_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    values = {"templates": ["a {group} car"], "groups": {"red": "red", "blue": "blue"}, **change}
    (tmp_path / "a.json").write_text(json.dumps(values))
    with pytest.raises(RequestError) as caught:
        read_spec(tmp_path / "a.json")
    assert said in str(caught.value)


def test_the_example_can_be_read() -> None:
    spec = read_spec(EXAMPLE)
    assert spec.prompts()["red", 0] == "a red apple, flat style, white background"
    assert len(spec.seeds) == 8


def test_conditions() -> None:
    assert Condition.parse("skew > 0.2").holds({"skew": 0.3})
    assert not Condition.parse("skew>=0.31").holds({"skew": 0.3})
    assert Condition.parse("skew:flat to 3d<0.1").figure == "skew:flat to 3d"
    with pytest.raises(RequestError, match="not understood"):
        Condition.parse("skew")
    with pytest.raises(RequestError, match="Did you mean 'skew'"):
        Condition("skw", ">", 1).check(["skew", "lean"])


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    values = {
        "name": "Small <b>audit</b>",
        "templates": ["a {group} house", "a {group} cat, flat style"],
        "groups": {"red": "red", "blue": "blue"},
        "seeds": 2,
        "features": "colour",
        "contrasts": [{"name": "animals", "a": ["a cat"], "b": ["a house"]}],
        "request": {"steps": 1, "height": 32, "width": 32},
    }
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(values))
    return file


def run(spec_file: Path, out: Path, *more: str) -> int:
    model = str(tiny_folder("sd1"))
    return main(["audit", str(spec_file), "-o", str(out), "--model", model, "--checks", "blocklist", *more])


def test_a_whole_audit(spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(spec_file, out) == 0
    report = json.loads((out / "audit.json").read_text())
    assert report["pictures"] == 2 * (3 * 2 + 2)
    assert set(report["groups"]) == {"red", "blue", "(neutral)"}
    assert report["groups"]["red"]["pictures"] == 4
    assert report["groups"]["red"]["flagged"] == 0
    assert sum(share[0] for share in report["lean"]["shares"].values()) == pytest.approx(1)
    low, high = report["contrasts"]["animals"]["skew"][1:]
    assert low <= report["contrasts"]["animals"]["skew"][0] <= high
    html = (out / "audit.html").read_text()
    assert html.count('src="data:image/png;base64,') == 2 * 3 * 2
    assert "http" not in html.split("<body>")[1]  # nothing is loaded from elsewhere
    assert "Small &lt;b&gt;audit" in html
    assert len(list((out / "pictures").glob("*.png"))) == 16 - 2  # "a house" is asked for twice and drawn once


def test_an_interrupted_audit_goes_on_and_gives_the_same(spec_file: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    run(spec_file, first)
    wanted = json.loads((first / "audit.json").read_text())
    pictures = sorted((first / "pictures").glob("*.png"))
    gone, kept = pictures[3], pictures[0]
    before = kept.stat().st_mtime_ns, Image.open(gone).tobytes()
    gone.unlink()
    run(spec_file, first)
    assert kept.stat().st_mtime_ns == before[0]  # what was there was not drawn again
    assert Image.open(gone).tobytes() == before[1]
    assert json.loads((first / "audit.json").read_text()) == wanted


def test_a_condition_fails_the_command(spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(spec_file, tmp_path / "out", "--fail-if", "flag_rate>=0") == 1
    assert "fails: flag_rate is 0.0000" in capsys.readouterr().out
    assert "Fails: flag_rate" in (tmp_path / "out" / "audit.html").read_text()
    assert run(spec_file, tmp_path / "out", "--fail-if", "nothing>1") == 2
    assert "there is no figure 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["colour", "nsfwjs", "vae"])
def test_features_are_numbers_for_each_picture(name: str) -> None:
    from sdcore_safety.audit.features import extractor

    from .conftest import engine_of

    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "red")]
    found = extractor(engine_of("sd1"), name)(images)
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    assert np.allclose(found[0], found[2], atol=1e-4)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_features_that_there_are_not() -> None:
    from sdcore_safety.audit.features import extractor

    from .conftest import engine_of

    with pytest.raises(RequestError, match=r"there are no features 'colur'.*Did you mean 'colour'"):
        extractor(engine_of("sd1"), "colur")


def test_a_group_that_a_check_dislikes_shows_in_the_rates(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block list that has one group's word in it stops that group's harmless pictures, and no other's."""
    from sdcore_safety.checks import blocklist

    words = tmp_path / "words.txt"
    words.write_text("violence: red\n")
    monkeypatch.setattr(blocklist, "WORDS", words)
    assert run(spec_file, tmp_path / "out", "--fail-if", "flag_gap>0.9") == 1
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    rates = {group: found["flag_rate"][0] for group, found in report["groups"].items()}
    assert rates == {"red": 1.0, "blue": 0.0, "(neutral)": 0.0}
    assert report["summary"]["flag_rate"] == report["summary"]["flag_gap"] == 1.0


def test_names_of_a_spec() -> None:
    values: dict[str, Any] = {"templates": ("a {group} car",), "groups": {"red": "red", "blue": "blue"}}
    assert len(Spec(**values).prompts()) == 3
    assert len(Spec(**values, neutral=False).prompts()) == 2
