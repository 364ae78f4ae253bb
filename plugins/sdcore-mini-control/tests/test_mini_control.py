"""The package is found, is small, and pictures follow its control; the parts of its evaluation and recipe are right."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sdcore_mini_control
from PIL import Image
from sdcore_controlnet import ControlNet, ControlNetPlugin

TOP = Path(__file__).resolve().parent.parent
FILE_LIMIT = 16 * 2**20
has_weights = (sdcore_mini_control.model_folder() / "config.json").is_file()
needs_weights = pytest.mark.skipif(
    not has_weights, reason="no weights in src/sdcore_mini_control/data: make them with recipe/train.py --install"
)


def script(name: str) -> Any:
    """A script of the package as a module; its folder is on the path, as it is when it is run."""
    path = TOP / name
    unique = f"mini_control_{path.stem}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent))
        try:
            sys.modules[unique] = module
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
    return sys.modules[unique]


def test_importing_it_needs_nothing() -> None:
    assert not {"torch", "sdcore", "sdcore_controlnet"} & set(vars(sys.modules["sdcore_mini_control"]))


@needs_weights
def test_is_small_and_says_nothing_of_where_it_was_made() -> None:
    files = [path for path in sdcore_mini_control.model_folder().rglob("*") if path.is_file()]
    assert all(path.stat().st_size <= FILE_LIMIT for path in files)
    assert "_name_or_path" not in json.loads((sdcore_mini_control.model_folder() / "config.json").read_text())


@needs_weights
def test_is_a_net_of_diffusers_for_the_embedded_model() -> None:
    from diffusers import ControlNetModel

    from sdcore.models import load_model

    net = ControlNetModel.from_pretrained(sdcore_mini_control.model_folder())
    unet = load_model("mini").unet
    assert net.config.cross_attention_dim == unet.config.cross_attention_dim
    assert net.config.in_channels == unet.config.in_channels
    assert float(net.controlnet_mid_block.weight.detach().abs().max()) > 0  # it was trained


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The figures of ten pairs of the evaluation, half of them posed, with fewer steps: of icons never shown.

    With those of the posed ones without their names.
    """
    from sdcore import Engine

    evaluate = script("eval/evaluate.py")
    engine = Engine.load("mini", plugins=[ControlNetPlugin], device="cpu", dtype="float32")
    pairs = evaluate.pairs()
    chosen = pairs[:5] + pairs[-5:]
    named, unnamed = (
        evaluate.figures(evaluate.draw(engine, "mini-canny", part, steps=8))
        for part in (chosen, evaluate.unnamed(chosen))
    )
    return {**named, "kinds": named["kinds"] | unnamed["kinds"]}


@needs_weights
def test_pictures_follow_the_control(found: dict[str, Any]) -> None:
    assert found["edge_f1"] >= 0.6
    assert found["gain"] >= 0.3
    for kind in ("posed", "unnamed"):  # here the control says what the prompt does not
        assert found["kinds"][kind]["with"] >= 0.6
        assert found["kinds"][kind]["with"] - found["kinds"][kind]["without"] >= 0.3


def test_pairs_of_the_evaluation() -> None:
    pairs = script("eval/evaluate.py").pairs()
    held_out = set(json.loads((TOP / "recipe" / "held_out.json").read_text(encoding="utf-8")))
    assert len(pairs) >= 100
    assert {pair["kind"] for pair, _ in pairs} == {"own", "restyled", "other", "posed"}
    assert {pair["concept"] for pair, _ in pairs} <= held_out
    assert all(control.size == (64, 64) and np.asarray(control).any() for _, control in pairs)
    assert len({pair["seed"] for pair, _ in pairs}) == len(pairs)
    nameless = script("eval/evaluate.py").unnamed(pairs)
    assert len(nameless) == sum(pair["kind"] == "posed" for pair, _ in pairs)
    assert all(pair["prompt"].count(",") == 1 and pair["concept"] not in pair["prompt"] for pair, _ in nameless)


def test_score_of_edges() -> None:
    score = script("eval/edge_score.py")
    square = np.zeros((32, 32), bool)
    square[8, 8:24] = square[23, 8:24] = square[8:24, 8] = square[8:24, 23] = True
    assert score.f1(square, square) == 1.0
    line = np.zeros((32, 32), bool)
    line[:, 10] = True
    assert score.f1(np.roll(line, 1, 1), line) == 1.0  # one pixel aside
    assert score.f1(np.roll(line, 2, 1), line) == 0.0  # two pixels aside
    half = line.copy()
    half[16:] = False
    assert score.f1(half, line) == pytest.approx(2 * 1.0 * (17 / 32) / (1.0 + 17 / 32))
    assert score.f1(np.ones_like(line), line) == pytest.approx(2 * (3 / 32) / (1 + 3 / 32))  # all white is no answer
    assert score.f1(np.zeros_like(line), line) == 0.0


def test_figures() -> None:
    evaluate = script("eval/evaluate.py")
    control = Image.new("L", (64, 64))
    control.paste(255, (20, 0, 21, 64))
    half = Image.new("RGB", (64, 64), "white")
    half.paste("black", (0, 0, 20, 64))  # an edge where the control has one
    plain = Image.new("RGB", (64, 64), "white")
    drawn = [evaluate.Drawn({"kind": kind, "prompt": "x"}, control, plain, half) for kind in ("own", "other")]
    found = evaluate.figures(drawn)
    assert found["edge_f1_without"] == 0.0
    assert found["edge_f1"] > 0.95
    assert found["reached"]
    assert set(found["kinds"]) == {"own", "other"}
    assert found["background_kept"] == 1.0
    assert not drawn[0]._replace(controlled=Image.new("RGB", (64, 64), "pink")).kept
    assert evaluate.sheet(drawn).width > 2 * 64


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    train = script("recipe/train.py")
    held = json.loads((TOP / "recipe" / "held_out.json").read_text(encoding="utf-8"))
    rows = [{"concept": held[0]}, {"concept": "red apple"}, {"concept": f"red apple | {held[1]}"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert train.shown_concepts(tmp_path) == ["red apple"]


def test_the_notice_names_every_style_that_is_trained_on() -> None:
    notice = (TOP / "NOTICE").read_text(encoding="utf-8").lower()
    for style in script("recipe/train.py").STYLES:
        assert style in notice


@pytest.mark.parametrize(
    ("flag", "told"), [("--workers=-1", "workers"), ("--batch-size=0", "batch_size"), ("--learning-rate=11", "rate")]
)
def test_a_wrong_flag_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, told: str) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"concept": "red apple"}', encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        script("recipe/train.py").main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), flag])
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_captions_of_the_training() -> None:
    """Own, nameless, or another's name; style and background are always the picture's own."""
    from types import SimpleNamespace

    import torch
    from sdcore_train import Batch

    names = script("recipe/names.py")
    assert names.parts("an icon of a cat, big, flat style, red background") == (
        "an icon of a cat, big",
        "flat style, red background",
    )
    with pytest.raises(ValueError, match="'a cat' is not NAME, STYLE style, COLOUR background"):
        names.parts("a cat")
    said = {f"{row}": (f"thing {row}", f"style {row}") for row in range(20)}
    captions = ("", *tuple(f"synonym {row}" for row in range(1, 20)))
    batch = Batch(0, tuple(said), captions, ("",) * 20, None, None, None, None, torch.ones(20), (), (), (64, 64))
    training = names.NamesTraining(names.Names(nameless=0.4, other=0.2, counted=0.1))
    made = training._batch(batch, said)
    assert made.captions[0] == ""  # a dropped caption stays dropped
    assert list(made.captions[1:4]) == [f"thing {row + 1}, style {row}" for row in range(1, 4)]
    assert list(made.captions[4:]) == [f"style {row}" for row in range(4, 12)] + list(captions[12:])
    # What is drawn of another name is no target of the squared error, or little of one.
    counted = pytest.approx([1.0] + 3 * [0.1] + 16 * [1.0])
    assert made.extra["names"].tolist() == counted
    outcome: Any = SimpleNamespace(
        batch=made, prediction=torch.zeros(20, 4, 2, 2), target=torch.ones(20, 4, 2, 2), masks=None
    )
    assert training._loss(outcome)["mse"].tolist() == counted


def test_an_unknown_net_is_told(tmp_path: Path) -> None:
    from sdcore_controlnet.installed import find_net

    from sdcore import ModelError

    with pytest.raises(ModelError, match="Did you mean 'mini-canny'"):
        find_net("mini-cany")
    if has_weights:
        assert find_net("mini-canny") == sdcore_mini_control.model_folder()
    else:
        with pytest.raises(ModelError, match="has no weights"):
            find_net("mini-canny")
    assert ControlNet(model="mini-canny", image=str(tmp_path / "edges.png")).model == "mini-canny"
