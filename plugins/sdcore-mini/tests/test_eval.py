"""The evaluation's parts, on made-up pictures, and the classifier that ships with it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

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
