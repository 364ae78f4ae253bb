"""The evaluation's parts, on made-up pictures, and the classifier that ships with it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "recipe"))
sys.path.insert(0, str(Path(__file__).parent.parent / "eval"))

from mini_eval import augment, background, drawing, frechet, network, prompts, renderings, sheets
from mini_recipe import dataset
from mini_recipe.pictures import colours

EVAL = Path(__file__).parent.parent / "eval"
PLUGINS = EVAL.parent.parent


def script(name: str) -> Any:
    """A script of the evaluation as a module; others have scripts of these names too."""
    spec = importlib.util.spec_from_file_location(f"mini_eval_{name}", EVAL / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(colours()))
def test_background_of_a_noisy_picture(name: str) -> None:
    random = np.random.default_rng(1)
    picture = np.empty((64, 64, 3))
    picture[:] = colours()[name]
    picture += random.normal(0, 12, picture.shape)
    picture[6:58, 6:58] = (200, 10, 90)  # what is in the middle does not matter
    assert background.named(background.border_mean(picture), colours()) == name


def test_background_that_is_none_of_them() -> None:
    assert background.named(np.array([0, 90, 0]), colours()) is None
    table = np.array(list(colours().values()), float)
    between = np.linalg.norm(table[:, None] - table[None], axis=-1)
    assert between[between > 0].min() > 2 * background.FARTHEST  # so that no colour can be two


def test_prompts_are_fixed_and_spread() -> None:
    everything = list(colours())
    seen = {
        (f"thing {n}", style): everything
        for n in range(50)
        for style in ("3d", "flat", "gradient")
        if n or style == "3d"
    }
    seen["thing 7", "flat"] = ["black"]
    made = prompts.make(seen, 100, ["3d", "flat"], {"3d": "gradient"})
    assert made == prompts.make(seen, 100, ["3d", "flat"], {"3d": "gradient"})
    assert made[:40] == prompts.make(seen, 40, ["3d", "flat"], {"3d": "gradient"})
    assert all(prompt.style in ("gradient", "flat") for prompt in made)
    assert all((", 3d style," in prompt.text) == (prompt.style == "gradient") for prompt in made)
    assert all(prompt.colour == "black" for prompt in made if (prompt.concept, prompt.style) == ("thing 7", "flat"))
    assert len({prompt.concept for prompt in made}) == 49  # "thing 0" has neither style
    assert min(Counter(prompt.colour for prompt in made).values()) >= 6
    assert len({prompt.seed for prompt in made}) == 100
    with pytest.raises(ValueError, match="only 0 of 30"):
        prompts.make(seen, 30, ["noto"], {})


def test_frechet_distance() -> None:
    random = np.random.default_rng(2)
    first = random.normal(size=(4000, 5)) * (1, 2, 3, 4, 5)
    assert frechet.distance(first, first) == pytest.approx(0, abs=1e-8)
    assert frechet.distance(first, first + 2) == pytest.approx(5 * 4)
    # Gaussians with the same axes: the sum of squared differences of the standard deviations.
    rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
    wide = (first * (3, 1, 1, 1, 0.5)) @ rotation
    expected = sum((s * a - s) ** 2 for s, a in zip((1, 2, 3, 4, 5), (3, 1, 1, 1, 0.5), strict=True))
    assert frechet.distance(first @ rotation, wide) == pytest.approx(expected, rel=0.1)


def test_principal_axes() -> None:
    random = np.random.default_rng(3)
    features = random.normal(size=(300, 6)) * (9, 0.1, 0.1, 5, 0.1, 0.1) + 4
    mean, axes = frechet.principal_axes(features, 2)
    assert np.allclose(mean, 4, atol=1)
    assert np.allclose(np.abs(axes[[0, 3], [0, 1]]), 1, atol=0.01)


def test_transform_shrinks_moves_and_turns() -> None:
    icon = torch.zeros(1, 1, 80, 80)
    icon[:, :, :40, :] = 1  # the upper half
    plain = augment.transform(icon, torch.ones(1), torch.zeros(1), torch.zeros(1, 2), 64)
    assert plain[0, 0, :31].min() == 1
    assert plain[0, 0, 33:].max() == 0
    small = augment.transform(icon, torch.full((1,), 0.5), torch.zeros(1), torch.tensor([[0.25, 0.125]]), 64)[0, 0]
    rows, columns = (small > 0.5).nonzero(as_tuple=True)
    assert (rows.min(), rows.max()) == (24, 39)
    assert (columns.min(), columns.max()) == (32, 63)
    turned = augment.transform(icon, torch.ones(1), torch.tensor([90.0]), torch.zeros(1, 2), 64)[0, 0]
    assert abs(float(turned[:, :31].mean() - turned[:, 33:].mean())) > 0.9


def test_line_art_takes_its_ink() -> None:
    placed = torch.zeros(2, 4, 8, 8)
    placed[:, 0] = 1.0
    placed[:, 3, 2:6] = 1.0
    placed[:, :3] *= placed[:, 3:]
    ground = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    both = augment.on_ground(placed, ground, torch.tensor([torch.nan, 1.0]))
    assert both[0, :, 3, 3].tolist() == [1, 0, 0]
    assert both[1, :, 3, 3].tolist() == [1, 1, 1]
    assert both[1, :, 0, 0].tolist() == [0, 0, 1]


def test_disturbances_are_small_and_repeatable() -> None:
    picture = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)).mul(0.1).add(0.4)
    one = augment.disturb(picture, torch.Generator().manual_seed(5))
    assert torch.equal(one, augment.disturb(picture, torch.Generator().manual_seed(5)))
    assert not torch.equal(one, augment.disturb(picture, torch.Generator().manual_seed(6)))
    assert 0.001 < (one - picture).abs().mean() < 0.1
    flat = torch.full((2, 3, 16, 16), 0.3)
    assert torch.allclose(augment.blur(flat, torch.tensor([0.0, 1.3])), flat)


def test_held_out_renderings_differ_from_the_training_data() -> None:
    icon = Image.new("RGBA", (256, 256), (200, 0, 0, 255))
    widths = set()
    for number in range(30):
        one = renderings.held_out(icon, "red square", "flat", "white", 64, number)
        assert one.tobytes() == renderings.held_out(icon, "red square", "flat", "white", 64, number).tobytes()
        widths.add(int((np.asarray(one)[32, :, 1] < 128).sum()) / 64)
    low, high = dataset.SHARE - dataset.JITTER_SHARE, dataset.SHARE + dataset.JITTER_SHARE
    assert not [width for width in widths if low + 0.01 < width < high - 0.01]
    assert min(widths) < low
    assert max(widths) > high


def test_classifier_is_kept_in_half_precision(tmp_path: Path) -> None:
    model = network.Classifier(7, 4, width=4).eval()
    judge = network.Judge(model, tuple("abcdefg"), network.STYLES)
    network.save(judge, tmp_path, 4, {"steps": 1})
    again = network.load(tmp_path)
    assert again.concepts == judge.concepts
    pictures = torch.rand(3, 3, 64, 64)
    for mine, kept in zip(judge.scores(pictures), again.scores(pictures), strict=True):
        assert torch.allclose(mine, kept, atol=0.05)
        assert torch.allclose(kept.exp().sum(1), torch.ones(3), atol=1e-4)
    with pytest.raises(FileNotFoundError, match="--retrain"):
        network.load(tmp_path / "nowhere")


def test_the_classifier_that_ships() -> None:
    judge = network.load(EVAL)
    config = json.loads((EVAL / network.CONFIG).read_text())
    assert (EVAL / network.WEIGHTS).stat().st_size <= 8e6
    assert config["accuracy"]["held-out"]["concept_top1"] >= 0.97
    assert set(dataset.held_out()) <= set(judge.concepts)
    # It has learned something: drawn by hand, a red disc is a red circle.
    side = torch.arange(64.0) - 31.5
    inside = (side[:, None] ** 2 + side[None] ** 2 < 26**2).float()
    red = torch.tensor([0.87, 0.18, 0.27])[:, None, None] * inside + (1 - inside)
    by_concept, _ = judge.scores(red[None])
    assert "red circle" in [judge.concepts[number] for number in by_concept[0].topk(5).indices]


def test_psnr() -> None:
    assert drawing.psnr(0.01) == pytest.approx(20)


def test_sheet_frames_what_is_wrong() -> None:
    pictures = [Image.new("RGB", (8, 8), "blue")] * 3
    sheet = sheets.grid(pictures, 2, [False, True, False])
    assert sheet.size == (28, 28)
    assert sheet.getpixel((3, 8)) == (255, 255, 255)
    assert sheet.getpixel((15, 8)) == sheets.WRONG


THINGS = {"red apple": (220, 0, 0), "blue ball": (0, 0, 255), "green key": (0, 160, 0)}
STYLES = ("3d", "gradient", "flat", "noto")


class FakeJudge:
    """Takes everything for the first thing in the first style."""

    concepts = (*THINGS, "else", "more", "rest")
    styles = network.STYLES

    def scores(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = [torch.linspace(0, -1, count).expand(len(pictures), -1) for count in (6, len(self.styles))]
        return order[0], order[1]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The evaluation with its heavy parts replaced: three things in four styles, and a model that draws blue."""
    found = dataset.Catalogue((), {name: {style: Path(name) / style for style in STYLES} for name in THINGS})
    blue = Image.new("RGB", (64, 64), colours()["blue"])

    class FakeEngine:
        asked: list[str] = []

        def generate(self, text: str, **fields: Any) -> Any:
            self.asked.append(text)
            return SimpleNamespace(images=[blue] * fields.get("count", 1))

    engine = FakeEngine()
    monkeypatch.setattr("sdcore.Engine.load", lambda *_, **__: engine)
    monkeypatch.setattr(network, "load", lambda _: FakeJudge())
    monkeypatch.setattr(dataset, "catalogue", lambda *_: found)
    icons = {path: (*THINGS[path.parent.name], 255) for paths in found.icons.values() for path in paths.values()}
    monkeypatch.setattr("mini_recipe.icons.load", lambda path: Image.new("RGBA", (64, 64), icons[path]))
    return engine


def test_the_last_line_of_the_evaluation(
    made_up: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = script("evaluate")
    random = torch.Generator().manual_seed(4)
    monkeypatch.setattr(evaluate.vgg, "load", lambda _: None)
    monkeypatch.setattr(evaluate.vgg, "features", lambda pictures, _: torch.randn(len(pictures), 20, generator=random))
    monkeypatch.setattr(evaluate.drawing, "reconstruction", lambda *_: (26.1, 25.1))
    monkeypatch.setattr(evaluate, "RESULTS", tmp_path / "results.json")
    assert evaluate.main(["--prompts", "30", "--out", str(tmp_path / "out"), "--record", "fake"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(figures) == list(evaluate.FIGURES)
    assert set(figures) == {"concept_top1", "concept_top5", "style", "background", "psnr", "frechet", "prompts"}
    assert (figures["concept_top5"], figures["psnr"], figures["prompts"]) == (1.0, 26.1, 30)
    assert 0.2 < figures["concept_top1"] < 0.5
    assert 0 < figures["background"] < 0.3  # blue is one of eleven
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert {key: row[key] for key in figures} == figures
    assert set(row["by_style"]) == set(STYLES)
    assert len(made_up.asked) == 30 + len(prompts.FREE)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"pictures.png", "free.png", "details.jsonl"}


def test_pairs(made_up: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = script("pairs")
    assert pairs.main(["--pairs", "16"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["of"] for line in lines] == ["renderings", "mini"]
    assert len(set(made_up.asked)) > 10
    # What is right is found where it was asked, whatever stands above or beside what.
    red, blue = (Image.new("RGBA", (64, 64), (*THINGS[name], 255)) for name in ("red apple", "blue ball"))

    class SeesColours(FakeJudge):
        def scores(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            middle = pictures[:, :, 32, 32]
            scores = torch.full((len(pictures), 6), -9.0)
            scores[:, 0], scores[:, 1] = middle[:, 0], middle[:, 2]
            return scores, scores

    for stacked in (False, True):
        for style in STYLES:
            asked = pairs.Pair("red apple", "blue ball", style, stacked)
            picture = dataset.pair_picture(red, blue, style, (255, 255, 255), 64, stacked)
            assert pairs.told(SeesColours(), [picture], [asked]) == {"things": 1.0, "order": 1.0}
            turned = dataset.pair_picture(blue, red, style, (255, 255, 255), 64, stacked)
            assert pairs.told(SeesColours(), [turned], [asked]) == {"things": 0.0, "order": 0.0}


def test_the_classifier_is_trained_as_what_ships_was() -> None:
    classifier = script("classifier")
    config = json.loads((EVAL / network.CONFIG).read_text())
    mine = (classifier.WIDTH, classifier.BATCH, classifier.STEPS, classifier.SEED)
    assert mine == tuple(config[key] for key in ("width", "batch", "steps", "seed"))
    assert f"{config['steps']:,} steps of {config['batch']}" in (EVAL / "README.md").read_text()


def rows_of_results() -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in json.loads((EVAL / "results.json").read_text())}


def table_of(readme: Path) -> dict[str, list[str]]:
    """The rows of the table of figures, by what is in the first column up to a bracket or comma."""
    rows = re.findall(r"^\|(.+)\|$", readme.read_text(), re.M)
    cells = [[cell.strip(" *") for cell in row.split("|")] for row in rows]
    return {re.split(r" \(|,", row[0])[0]: row[1:] for row in cells if len(row) == 7 and row[0][:3] != "---"}


def assert_shows(cells: list[str], row: dict[str, Any], name: str) -> None:
    """The cells of a table's row are a row of results, rounded."""
    shares = [row[key] for key in ("concept_top1", "concept_top5", "style", "background")]
    # Results have four digits: what is rounded is the share of so many pictures, not that.
    counts = [round(share * row["prompts"]) / row["prompts"] for share in shares]
    assert cells[:4] == [f"{100 * share:.1f} %".replace("100.0", "100") for share in counts], name
    if cells[4]:
        assert cells[4] == f"{row['psnr']:.2f} dB", name
    assert abs(float(cells[5]) - row["frechet"]) < 0.0501, name


@pytest.mark.parametrize(
    ("package", "names", "judged"),
    [
        ("sdcore-mini", {name: name for name in (*(f"mini-v{number}" for number in range(5)), "mini-128")}, "mini-v4"),
        ("sdcore-mini-128", {"sdcore-mini": "mini-v4", "sdcore-mini-128": "mini-128"}, "mini-128"),
    ],
)
def test_the_tables_say_what_was_measured(package: str, names: dict[str, str], judged: str) -> None:
    table, results = table_of(PLUGINS / package / "README.md"), rows_of_results()
    for name, model in names.items():
        assert_shows(table[name], results[model], name)
    (ceiling,) = [row for name, row in table.items() if name.startswith("held-out renderings")]
    row = results[judged]
    assert_shows(ceiling, {**row, **row["judge_on_renderings"], "frechet": row["frechet_of_renderings"]}, "renderings")


@pytest.mark.parametrize(("model", "concept"), [("mini-v4", 0.80), ("mini-128", 0.95)])
def test_what_ships_reaches_the_aims(model: str, concept: float) -> None:
    row = rows_of_results()[model]
    assert row["concept_top1"] >= concept
    assert row["style"] >= 0.95
    assert row["background"] >= 0.95
    assert row["psnr"] >= 26
    assert row["prompts"] >= 300


@pytest.mark.parametrize("package", ["sdcore-mini", "sdcore-mini-128"])
def test_the_notice_names_every_style_of_the_data(package: str) -> None:
    """The codec saw all of them, line art too."""
    notice = (PLUGINS / package / "NOTICE").read_text()
    for name in ("Noto Emoji", "3D", "gradient", "flat", "high contrast", "emojibase-data", "Unicode CLDR"):
        assert name in notice
