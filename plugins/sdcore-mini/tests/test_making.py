"""From nothing to the model: every command of the recipe finds what it needs, and its README tells the commands."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sdcore_train")

sys.path.insert(0, str(Path(__file__).parent.parent / "recipe"))

import build_data
import build_model
import icon_latents
import read_through
from build_model import PRESETS

RECIPE = Path(__file__).parent.parent / "recipe"


def script(name: str) -> Any:
    """A script of the recipe whose name others use too, as a module."""
    spec = importlib.util.spec_from_file_location(f"mini_recipe_{name}", RECIPE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


make, train = script("make"), script("train")


def commands_of_the_readme() -> list[list[str]]:
    """Every command of the README's blocks but git's and pip's, with the variables filled in."""
    text = (RECIPE / "README.md").read_text(encoding="utf-8")
    found, variables = [], {}
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line, comments=True)
            if words and re.fullmatch(r"[A-Z]+=.*", words[0]):
                name, _, value = words[0].partition("=")
                variables[name] = value
            elif words and words[0] in ("python", "torchrun"):
                found.append(words)
    return found


def needs_and_makes(words: list[str]) -> tuple[set[str], set[str]]:
    """Folders and files that a command reads, and those that it writes."""
    (name,) = [Path(word).name for word in words if word.endswith(".py")]
    flags = {flag: value for flag, value in pairwise(words) if flag.startswith("--")}
    if name != "train.py":
        inputs = {value for flag, value in flags.items() if flag.removeprefix("--") in PATHS}
        return inputs, {flags["--out"]} if "--out" in flags else set()
    (config,) = [word for word in words if word.endswith(".toml")]
    values = tomllib.loads((RECIPE / Path(config).name).read_text(encoding="utf-8"))
    for flag, value in pairwise(words):
        if flag == "--set":
            train.replace(values, value)
    options = [value for use in values["use"] for key, value in use.get("options", {}).items() if key in PATHS]
    inputs = {values["model"], *(source["path"] for source in values["data"]), *options}
    output = values["output"]
    made = {output, f"{output}/model", f"{output}/model/vae"}
    if any(use["plugin"] == "tell-apart" for use in values["use"]):
        made.add(f"{output}/keys.safetensors")
    return inputs, made


PATHS = ("data", "tokenizer", "vae", "model", "like", "previous", "text", "icons", "keys")


def assert_each_finds_what_it_needs(commands: list[list[str]]) -> None:
    there: set[str] = set()
    for words in commands:
        needs, makes = needs_and_makes(words)
        for need in needs:
            assert need in there or need.startswith("runs/before/"), f"{shlex.join(words)}: nothing makes {need}"
        there |= makes


def test_commands_of_the_readme_find_what_they_need() -> None:
    commands = [words for words in commands_of_the_readme() if not words[1].endswith("make.py")]
    used = {Path(word).name for words in commands for word in words if word.endswith(".toml")}
    assert used == {path.name for path in RECIPE.glob("*.toml")}
    assert_each_finds_what_it_needs(commands)


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_commands_of_make_find_what_they_need(preset: str, accelerator: bool) -> None:
    plan = [step for thing in make.THINGS for step in make.steps(thing, preset, accelerator)]
    assert_each_finds_what_it_needs([step.command() for step in plan])
    for step in plan:
        _, makes = needs_and_makes(step.command())
        assert any(step.makes.is_relative_to(path) for path in makes)


def test_the_readme_lists_what_make_runs(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [words for words in commands_of_the_readme() if not words[1].endswith("make.py")]
    for preset in ("cpu", "gpu"):
        assert make.main([*make.THINGS, "--preset", preset, "--accelerator", "--dry-run"]) == 0
        for line in capsys.readouterr().out.splitlines():
            words = shlex.split(line)
            start = ["torchrun"] if words[1] == "-m" else ["python"]
            rest = words[3 if words[1] == "-m" else 1 :]
            told = [*start, *(word.replace(f"{make.HERE}/", "plugins/sdcore-mini/recipe/") for word in rest)]
            assert told in listed, shlex.join(told)
    for words in commands_of_the_readme():
        if words[1].endswith("make.py"):
            assert make.main([*words[2:], "--dry-run"]) == 0


class Commands:
    """Stands for subprocess: what was run, and its product made."""

    def __init__(self, folder: Path, steps: list[Any], codes: list[int] | None = None) -> None:
        self.folder, self.steps, self.codes, self.run_was = folder, steps, codes or [], []

    def run(self, command: list[str], cwd: Path, check: bool) -> SimpleNamespace:
        assert cwd == self.folder
        assert not check
        self.run_was.append(command)
        code = self.codes.pop(0) if self.codes else 0
        if not code:
            for step in self.steps:
                if command[: len(step.command())] == step.command():
                    (cwd / step.makes).parent.mkdir(parents=True, exist_ok=True)
                    (cwd / step.makes).touch()
        return SimpleNamespace(returncode=code)


def test_what_is_made_is_left_out_and_what_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step for thing in make.THINGS for step in make.steps(thing, "cpu")]
    with pytest.raises(SystemExit, match="2"):
        make.main(["vae", "--folder", str(tmp_path)])
    assert "vae needs what 'data' makes" in capsys.readouterr().err
    commands = Commands(tmp_path, steps, codes=[0, 0, 0, 3])
    monkeypatch.setattr(make, "subprocess", commands)
    assert make.main(["data", "vae", "--folder", str(tmp_path)]) == 1
    assert "stopped with exit code 3" in capsys.readouterr().err
    assert len(commands.run_was) == 4
    (tmp_path / "runs/mini-vae/checkpoints/step-00000200").mkdir(parents=True)
    commands.run_was.clear()
    assert make.main(["vae", "--resume", "--folder", str(tmp_path)]) == 0
    assert [Path(words[2]).stem for words in commands.run_was] == ["vae-cpu", "decoder-cpu", "sharpen-cpu"]
    assert [words[-1] == "--resume" for words in commands.run_was] == [True, False, False]
    commands.run_was.clear()
    assert make.main(["data", "vae", "--folder", str(tmp_path)]) == 0
    assert not commands.run_was
    assert make.main(["model", "--try", "--folder", str(tmp_path)]) == 0
    assert commands.run_was[-1][1:3] == ["-m", "torch.distributed.run"]
    assert commands.run_was[-1][-2:] == ["--set", "steps=2"]


def test_the_preset_has_the_shape_of_what_ships(tmp_path: Path) -> None:
    import sdcore_mini

    ships = sdcore_mini.model_folder()
    given = ["--tokenizer", str(ships / "tokenizer"), "--out", str(tmp_path / "blank")]
    assert build_model.main(given) == 0
    changed = {"scaling_factor", "transformers_version", "_diffusers_version", "dtype"}
    for part in ("vae", "unet", "text_encoder"):
        mine, theirs = (
            json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
            for folder in (tmp_path / "blank", ships)
        )
        for key in set(mine) & set(theirs) - changed:
            assert mine[key] == theirs[key], f"{part}: {key}"
    assert build_model.main([*given[:2], "--vae", str(ships / "vae"), "--out", str(tmp_path / "start")]) == 0


def last_error(main: Any, given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a wrong command line ends with."""
    try:
        code = main(given)
    except SystemExit as stopped:
        code = stopped.code
    assert code in (1, 2)
    error: str = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


def test_a_wrong_configuration_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.toml"
    assert "cannot read" in last_error(train.main, [str(path)], capsys)
    path.write_text("steps = ", encoding="utf-8")
    assert "is not a TOML file" in last_error(train.main, [str(path)], capsys)
    path.write_text("stepps = 3", encoding="utf-8")
    assert "'steps'" in last_error(train.main, [str(path)], capsys)
    path.write_text("steps = -3", encoding="utf-8")
    assert "steps: " in last_error(train.main, [str(path)], capsys)
    path.write_text("steps = 3", encoding="utf-8")
    assert "write FIELD=VALUE" in last_error(train.main, [str(path), "--set", "steps"], capsys)
    assert "steps has no fields" in last_error(train.main, [str(path), "--set", "steps.more=1"], capsys)
    assert "batch_size: " in last_error(train.main, [str(path), "--set", "batch_size=none"], capsys)
    path.write_text(f'model = "{tmp_path.as_posix()}/none"\nsteps = 3', encoding="utf-8")
    assert last_error(train.main, [str(path)], capsys).startswith("error: ")


def test_a_field_is_set() -> None:
    values: dict[str, Any] = {"steps": 3, "pictures": {"height": 64}}
    for text in ("steps=2", "compile=null", "pictures.cache=off", "ema.decay=0.5", "model=runs/x"):
        train.replace(values, text)
    pictures = {"height": 64, "cache": "off"}
    assert values == {"steps": 2, "compile": None, "pictures": pictures, "ema": {"decay": 0.5}, "model": "runs/x"}


def test_missing_inputs_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sdcore_mini

    none, out, ships = str(tmp_path / "none"), str(tmp_path / "out"), sdcore_mini.model_folder()
    data = tmp_path / "data"
    data.mkdir()
    (data / "metadata.jsonl").write_text("", encoding="utf-8")
    for main, given, told in (
        (build_model.main, ["--tokenizer", none], "--tokenizer: there is no"),
        (build_model.main, ["--tokenizer", str(ships / "tokenizer"), "--vae", none], "--vae: there is no"),
        (build_model.main, ["--like", none], "--like: there is no"),
        (icon_latents.main, ["--data", none, "--model", str(ships)], "--data: there is no"),
        (icon_latents.main, ["--data", str(data), "--model", str(ships)], "dataset.json; build it"),
        (read_through.main, ["--data", none, "--previous", str(ships), "--text", str(ships)], "--data: there is no"),
        (read_through.main, ["--data", str(data), "--previous", none, "--text", str(ships)], "--previous: there is"),
        (read_through.main, ["--data", str(data), "--previous", str(ships), "--text", none], "--text: there is no"),
        (build_data.main, ["--concepts", "1"], "--concepts 1: at least 2"),
    ):
        assert told in last_error(main, [*given, "--out", out], capsys)
    assert not Path(out).exists()


def test_a_codec_of_other_channels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sdcore_mini

    (tmp_path / "config.json").write_text(json.dumps({"latent_channels": 4}), encoding="utf-8")
    tokenizer = str(sdcore_mini.model_folder() / "tokenizer")
    given = ["--tokenizer", tokenizer, "--vae", str(tmp_path), "--out", str(tmp_path / "out")]
    assert "has 4 latent channels, the preset cpu 8" in last_error(build_model.main, given, capsys)
    assert PRESETS["cpu"]["latent_channels"] == 8


def test_make_is_run_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPE / "make.py"), "vae", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert len(done.stdout.splitlines()) == 4
    assert not list(tmp_path.iterdir())
