"""``sdcore generate``: names, flags, files, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdcore.cli import request_flags
from sdcore.images import load_image
from sdcore.picture_files import read_record
from sdcore.request import ALIASES, GenerateRequest

Cli = Callable[..., tuple[int, str, str]]
Draw = Callable[..., list[str]]


def read_flags(*arguments: str) -> GenerateRequest:
    import argparse

    parser = argparse.ArgumentParser()
    request_flags.add_request_flags(parser)
    return request_flags.request_of(parser.parse_args(list(arguments)))


# --- names


def test_without_a_name_it_is_the_seed(draw: Draw, tmp_path: Path) -> None:
    assert draw("--seed", 7) == ["sdcore-7.png"]
    assert draw("--seed", 7) == ["sdcore-7-2.png"]
    first, second = (tmp_path / name for name in ("sdcore-7.png", "sdcore-7-2.png"))
    assert first.read_bytes() == second.read_bytes()
    assert read_record(first).seed == 7


def test_a_seed_that_was_drawn_is_in_the_name(draw: Draw) -> None:
    (name,) = draw()
    assert name == f"sdcore-{read_record(name).seed}.png"


def test_a_folder(draw: Draw, tmp_path: Path) -> None:
    assert draw("--seeds", "4,9", "-o", "new/deep/") == ["new/deep/sdcore-4.png", "new/deep/sdcore-9.png"]
    assert draw("--seeds", "9,9", "-o", "new/deep") == ["new/deep/sdcore-9-2.png", "new/deep/sdcore-9-3.png"]
    assert draw("--seed", 9, "-o", "new/deep", "--overwrite") == ["new/deep/sdcore-9.png"]
    assert len(list((tmp_path / "new/deep").iterdir())) == 4


def test_several_pictures_get_numbers(draw: Draw) -> None:
    assert draw("--seed", 1, "--count", 3, "-o", "cat.webp") == ["cat-1.webp", "cat-2.webp", "cat-3.webp"]
    assert [read_record(f"cat-{n}.webp").seed for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "taken.png"], "taken.png exists already"),
        (["-o", "cat.png", "--count", "12"], "cat-07.png exists already"),
        (["-o", "nowhere/cat.png"], "there is no folder nowhere"),
        (["-o", "cat"], "'cat' names no format: end it in .png"),
        (["-o", "cat.gif"], "names no picture format"),
        (["-o", "cat.png", "--sheet", "taken.png"], "taken.png exists already"),
        (["-o", "cat.png", "--sheet", "sheet.gif"], "'sheet.gif' names no picture format"),
        (["-o", "taken.png/"], "taken.png/ is a file|taken.png is a file"),
        (["--output", "latent", "-o", "cat.png"], "end their file in .safetensors"),
        (["--quality", "0"], "--quality is 0"),
        (["--preview-dir", "taken.png"], "taken.png is a file"),
    ],
)
def test_a_place_that_will_not_do_is_an_error_before_any_work(
    cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def drawn(*_: object, **__: object) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr("sdcore.engine.Engine.generate", drawn)
    for name in ("taken.png", "cat-07.png"):
        Path(name).write_text("mine")
    code, out, err = cli("generate", "x", "--model", model, *arguments)
    assert code in (1, 2)
    assert out == ""
    assert any(part in err for part in message.split("|"))
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert Path("taken.png").read_text() == "mine"


def test_overwrite(draw: Draw) -> None:
    Path("cat.png").write_text("old")
    assert draw("-o", "cat.png", "--overwrite", "--seed", 1) == ["cat.png"]
    assert load_image("cat.png").size == (64, 64)


# --- what is written


def test_previews_and_a_sheet(draw: Draw) -> None:
    files = draw(
        "--seeds", "1,2", "-o", "out/", "--sheet", "sheet.jpg", "--preview-dir", "steps", "--scheduler", "ddim"
    )
    assert files == ["out/sdcore-1.png", "out/sdcore-2.png", "sheet.jpg"]
    assert load_image("sheet.jpg").width > 128
    assert sorted(path.name for path in Path("steps").iterdir()) == [
        *("1-step-1.png", "1-step-2.png", "2-step-1.png", "2-step-2.png"),
    ]


def test_a_summary_as_json(draw: Draw) -> None:
    data = json.loads("\n".join(draw("--seed", 5, "--json", "-o", "a.png")))
    assert data["files"] == ["a.png"]
    (picture,) = data["pictures"]
    assert (picture["file"], picture["seed"], picture["index"]) == ("a.png", 5, 0)
    assert picture["pixels_sha256"] == read_record("a.png").pixels_sha256
    assert data["request"]["steps"] == 2


def test_latents_go_to_a_file_and_come_back(draw: Draw, cli: Cli, model: str) -> None:
    whole = draw("--seed", 5, "-o", "whole.png", "--scheduler", "euler", "--steps", 4)
    half = ["--seed", "5", "--scheduler", "euler", "--steps", "4"]
    assert draw(*half, "--output", "latent", "--denoising-end", 0.5, "-o", "half.safetensors") == ["half.safetensors"]
    draw(*half, "--image", "half.safetensors", "--denoising-start", 0.5, "-o", "other.png")
    assert whole == ["whole.png"]
    assert load_image("other.png").tobytes() == load_image("whole.png").tobytes()
    assert cli("replay", "other.png", "--model", model)[0] == 1
    assert cli("replay", "other.png", "--model", model, "--allow", "half.safetensors")[:2] == (0, "identical\n")


def test_broken_latents(cli: Cli, model: str) -> None:
    Path("bad.safetensors").write_bytes(b"no")
    code, _, err = cli("generate", "x", "--image", "bad.safetensors", "--model", model)
    assert code == 2
    assert "no latents can be read from it" in err


# --- the request


VALUES: dict[str, tuple[str, Any]] = {
    "negative_prompt": ("5", "5"),
    "seed": ("5", 5),
    "seeds": ("1,2", (1, 2)),
    "count": ("2", 2),
    "steps": ("9", 9),
    "scheduler": ("euler-a", "euler-a"),
    "guidance_scale": ("2.5", 2.5),
    "guidance_rescale": ("0.7", 0.7),
    "height": ("64", 64),
    "width": ("128", 128),
    "image": ("a.png", "a.png"),
    "strength": ("0.5", 0.5),
    "clip_skip": ("1", 1),
    "eta": ("1", 1.0),
    "timesteps": ("900,500", (900, 500)),
    "sigmas": ("14.6, 1.5", (14.6, 1.5)),
    "denoising_start": ("0.5", 0.5),
    "denoising_end": ("0.8", 0.8),
    "canvas_size": ("64,96", (64, 96)),
    "window": ("0,0.5,1,1", (0, 0.5, 1, 1)),
    "original_size": ("512,640", (512, 640)),
    "crops_coords_top_left": ("1,2", (1, 2)),
    "target_size": ("512x512", (512, 512)),
    "negative_original_size": ("1,2", (1, 2)),
    "negative_crops_coords_top_left": ("1,2", (1, 2)),
    "negative_target_size": ("1,2", (1, 2)),
    "aesthetic_score": ("5.5", 5.5),
    "negative_aesthetic_score": ("1", 1.0),
    "long_prompt": ("cut", "cut"),
    "batch_size": ("2", 2),
    "output": ("latent", "latent"),
}


def test_every_field_has_a_flag() -> None:
    assert set(VALUES) == set(GenerateRequest.model_fields) - {"prompt", "use"}


@pytest.mark.parametrize("field", VALUES)
def test_a_flag_of_each_field_and_its_aliases(field: str) -> None:
    text, value = VALUES[field]
    more = {"strength": ["--image", "a.png"], "denoising_start": ["--image", "a.png"]}.get(field, [])
    for name in (field, *(alias for alias, target in ALIASES.items() if target == field)):
        request = read_flags("a cat", f"--{name.replace('_', '-')}", text, *more)
        assert getattr(request, field) == value
        assert type(getattr(request, field)) is type(value)
        assert request.prompt == "a cat"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "abc"], "steps: .*got 'abc'"),
        (["--guidance-scale", "nan"], "guidance_scale: .*got nan"),
        (["--steps", "0"], "steps: .*greater than or equal to 1, got 0"),
        (["--sigmas", "nan,1"], "sigmas"),
        (["--use", "glow:strength"], "'strength'.* has no name and '='"),
        (["--scheduler", "eulr"], "Did you mean 'euler'"),
        (["--use", "nosuch"], "there is no plugin 'nosuch'.*pip install sdcore-nosuch"),
        (["--image", "no.png"], "there is no file 'no.png'"),
        (["--component", "vae"], "--component 'vae' has no '='"),
        (["--request", "no.json"], "the request no.json cannot be read"),
        (["--width", "67"], "67"),
    ],
)
def test_wrong_requests(cli: Cli, model: str, arguments: list[str], message: str) -> None:
    import re

    code, out, err = cli("generate", "x", "--model", model, *arguments)
    assert (code, out) == (2, "")
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert list(Path().glob("*.png")) == []


def test_a_request_as_json_under_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"prompt": "a dog", "num_inference_steps": 7, "seeds": [1, 2], "use": [{"plugin": "glow"}]}
    (tmp_path / "req.json").write_text(json.dumps(body))
    request = read_flags("--request", "req.json", "--seed", "5", "--use", "other:x=1")
    assert (request.prompt, request.steps, request.seed, request.seeds) == ("a dog", 7, 5, None)
    assert [item.plugin for item in request.use] == ["glow", "other"]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(body)))
    request = read_flags("a cat", "--request", "-", "--steps", "3")
    assert (request.prompt, request.steps, request.seeds) == ("a cat", 3, (1, 2))


# --- plugins in a file


def test_a_plugin_in_one_file_changes_the_picture(draw: Draw, glow: Path) -> None:
    draw("--seed", 1, "-o", "plain.png")
    draw("--seed", 1, "-o", "dark.png", "--plugin", glow, "--use", "glow:strength=1")
    assert load_image("plain.png").getextrema() != ((0, 0),) * 3
    assert load_image("dark.png").getextrema() == ((0, 0),) * 3
    draw("--seed", 1, "-o", "unused.png", "--plugin", glow)
    assert load_image("unused.png").tobytes() == load_image("plain.png").tobytes()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "there is no such file"),
        ("x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("import sdcore\n", "defines no subclass of sdcore.Plugin"),
        ("import sdcore\nclass A(sdcore.Plugin):\n    pass\n", "A.name is empty"),
    ],
)
def test_broken_plugin_files(cli: Cli, model: str, body: str | None, message: str) -> None:
    if body is not None:
        Path("p.py").write_text(body)
    code, _, err = cli("generate", "x", "--model", model, "--plugin", "p.py")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    if body and "1 / 0" in body:
        assert "Traceback" in cli("generate", "x", "--model", model, "--plugin", "p.py", "--verbose")[2]


def test_a_plugin_that_fails_is_named(cli: Cli, model: str, glow: Path) -> None:
    glow.write_text(glow.read_text().replace("(glow,) = run.uses(Glow)", "raise ValueError('burnt out')"))
    arguments = ["generate", "x", "--model", model, "--plugin", glow, "--use", "glow", "--steps", "1"]
    code, _, err = cli(*arguments)
    assert code == 1
    assert "plugin 'glow'" in err
    assert "ValueError: burnt out" in err
    assert "SDCORE_DISABLE=glow" in err
    assert list(Path().glob("*.png")) == []


def test_which_plugins_are_loaded(cli: Cli, model: str) -> None:
    code, _, err = cli("generate", "x", "--model", model, "--plugins", "nosuch")
    assert code == 2
    assert "plugin 'nosuch' cannot be loaded: it is not installed" in err
    assert cli("generate", "x", "--model", model, "--no-plugins", "--plugins", "a")[0] == 2


# --- stopping


STOPPING = """
import os, signal
from sdcore import Plugin, hookimpl, ports

class Stop(Plugin):
    name = "stop"

    @hookimpl
    def step(self, run):
        def stop(step, latents):
            assert step.index < 3, "it went on"
            if step.index == 2:
                os.kill(os.getpid(), signal.SIGINT)
        return ports.latents_out(stop)
"""


def test_ctrl_c_cancels(cli: Cli, model: str) -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    Path("stop.py").write_text(STOPPING)
    arguments = ["--model", model, "--plugin", "stop.py", "--use", "stop", "--steps", "20", "-o", "a.png"]
    code, out, err = cli("generate", "x", *arguments)
    assert (code, out, err) == (130, "", "cancelled: nothing was written\n")
    assert not Path("a.png").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_that_are_no_usage_errors(cli: Cli) -> None:
    Path("empty").mkdir()
    code, _, err = cli("generate", "x", "--model", "empty")
    assert code == 1
    assert "model_index.json" in err
    assert "Traceback" not in err
    assert "Traceback" in cli("generate", "x", "--model", "empty", "--verbose")[2]
