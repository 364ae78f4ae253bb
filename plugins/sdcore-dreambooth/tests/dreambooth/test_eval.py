"""The evaluation's measures, judge and table, on made-up pictures; and that the page says the settings in force."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))

from dreambooth_eval import judge, kept, measures, prompts, results, settings
from dreambooth_eval.renders import Icon, nearest_colour, new_backgrounds, render, subject_pictures

PAGE = Path(__file__).parents[4] / "docs" / "dreambooth.md"


def _icon(name: str, shape: str, colour: str) -> Icon:
    picture = Image.new("RGBA", (256, 256))
    getattr(ImageDraw.Draw(picture), shape)((30, 30, 226, 226), fill=colour)
    return Icon(name, "thing", {"flat": picture, "noto": picture.rotate(45)})


ICONS = [_icon("disc", "ellipse", "red"), _icon("square", "rectangle", "navy"), _icon("dot", "ellipse", "black")]


def _found(plan: str, recognised: float = 1.0, drift: float = 0.5, untouched: bool = True) -> results.Found:
    return results.Found("disc", plan, 0.9, recognised, 1.0, 0.1, drift, 0.2, untouched, 1.0)


def test_fidelity_is_to_the_nearest_picture() -> None:
    pictures = torch.eye(3)
    drawn = F.normalize(torch.tensor([[1.0, 0, 0], [1, 1, 0]]), dim=1)
    assert measures.fidelity(drawn, pictures) == pytest.approx((1 + 0.5**0.5) / 2)


def test_drift_is_a_distance_of_pairs() -> None:
    before = torch.eye(3)
    assert measures.drift(before, before) == 0
    assert measures.drift(before, before.roll(1, 0)) == 1
    assert measures.drift(before, torch.stack([before[0], before[1], before[0]])) == pytest.approx(1 / 3)


def test_shares_of_names() -> None:
    assert measures.share(["a", "b", "a"], "a") == pytest.approx(2 / 3)
    assert measures.share(["a", "b"], ["b", "b"]) == 0.5
    assert measures.share([], "a") == 0


@pytest.mark.parametrize("colour", ["white", "sky blue", "black"])
def test_the_background_of_a_rendering_is_named(colour: str) -> None:
    assert nearest_colour(render(ICONS[0].icons["flat"], "flat", colour, 64, 10, 0.8)) == colour


def test_pictures_of_a_subject_are_on_other_backgrounds_than_those_that_are_drawn() -> None:
    shown = subject_pictures(ICONS[0], "flat", 64, 5)
    assert [picture.size for picture, _ in shown] == [(64, 64)] * 5
    asked = new_backgrounds(ICONS[0], "flat")
    assert asked
    assert not {colour for _, colour in shown} & set(asked)
    colours = ["white", "yellow", "black", "gray"]
    assert not {*prompts.trained_class_prompts(["flat"], colours)} & {*prompts.drift_class_prompts(["flat"], colours)}


def test_a_judge_tells_things_apart_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 8, "VARIANTS": 6, "EPOCHS": 4, "BATCH": 8}.items():
        monkeypatch.setattr(judge, name, value)
    first = judge.train_judge(ICONS, lambda pictures: pictures, tmp_path, "no codec", 0, 1)
    assert first.accuracy["things"] > 0.9
    drawn = [render(icon.icons["flat"], "flat", "white", 64, 3, 0.8) for icon in ICONS]
    features, things, _ = first.look(drawn)
    assert things == ["disc", "square", "dot"]
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
    monkeypatch.setattr(judge, "_train", None)
    again = judge.train_judge(ICONS, lambda pictures: pictures, tmp_path, "no codec", 0, 1)
    assert torch.equal(again.look(drawn)[0], features)
    assert again.accuracy == first.accuracy


def test_the_summary_says_which_bars_are_reached() -> None:
    good = [
        _found("full, without prior", 0.1, 0.6),
        _found("full, with prior", 0.8, 0.3),
        _found("lora, without prior", 0.1, 0.6),
        _found("lora, with prior", 0.9, 0.2),
    ]
    reached = {"recognised": True, "drift": True, "lora_leaves_weights": True}
    found = results.summary(good, {}, {}, "model")
    assert found["bars"] == reached
    assert found["drift_ratio"] == {"full": 0.5, "lora": 0.333}
    for name, bad in {
        "recognised": replace(good[1], recognised=0.79),
        "drift": replace(good[1], drift=0.3002),  # 0.5 if it is rounded
        "lora_leaves_weights": replace(good[3], untouched=False),
    }.items():
        worse = [bad if one.plan == bad.plan else one for one in good]
        assert results.summary(worse, {}, {}, "model")["bars"] == reached | {name: False}
    # one subject below the bar is enough, whatever the mean; what was not measured is neither reached nor missed
    two = [*good, replace(good[1], subject="dot", recognised=0.7)]
    assert results.summary(two, {}, {}, "model")["bars"]["recognised"] is False
    alone = results.summary(good[:1], {}, {}, "model")["bars"]
    assert alone == dict.fromkeys(reached)
    json.dumps(found)


def test_the_table_has_means_and_each_subject(tmp_path: Path) -> None:
    found = [_found("full, with prior", drift=0.25), replace(_found("full, with prior", 0.5), subject="dot")]
    text = results.table(found, {"fidelity": 0.155, "ceiling": 1.0})
    assert "| before training | 0.155 |  |  |  |  |  |" in text
    assert "| full, with prior | 0.900 | 0.750 | 1.000 | 0.100 | 0.375 | 0.200 |" in text
    assert "| disc | 100%, drift 0.250 |" in text
    assert "| dot | 50%, drift 0.500 |" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    for _ in range(2):
        results.write_table(page, text)
        assert page.read_text() == f"before\n{results.BEGIN}\n{text}\n{results.END}\nafter\n"


def test_the_table_is_printed_and_last_a_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.tell("| a | b |\n| c | d |", {"bars": None}, None)
    assert capsys.readouterr().out == '| a | b |\n| c | d |\n{"bars": null}\n'
    results.tell("| a |", {}, tmp_path / "page.md")
    assert "| a |" in (tmp_path / "page.md").read_text()
    assert capsys.readouterr().out == "| a |\n{}\n"


def test_the_page_says_how_subjects_were_learnt() -> None:
    said = results.learnt(settings.PLANS)
    assert f"{results.BEGIN}\n{said}\n\n|" in PAGE.read_text(encoding="utf-8")
    assert "lora: 120 steps, learning rate 0.004 (40 times the plugin's default)" in said.replace("\n", " ")


def test_what_was_measured_by_other_code_does_not_count(tmp_path: Path) -> None:
    code = tmp_path / "code" / "inner"
    code.mkdir(parents=True)
    (code / "a.py").write_text("x = 1\n")
    store, picture = tmp_path / "kept", Image.new("RGB", (4, 4), "red")
    first = kept.Kept(store, [kept.digest_of_code([tmp_path / "code"])])
    first.put("disc full, with prior", {"drift": 0.5}, [picture])
    again = kept.Kept(store, [kept.digest_of_code([tmp_path / "code"])]).get("disc full, with prior")
    assert again is not None
    assert again[0] == {"drift": 0.5}
    assert again[1][0].tobytes() == picture.tobytes()
    (code / "a.py").write_text("x = 2\n")
    assert kept.Kept(store, [kept.digest_of_code([tmp_path / "code"])]).get("disc full, with prior") is None
