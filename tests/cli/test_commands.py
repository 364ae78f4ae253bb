"""The commands that draw nothing, commands of plugins, help, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sdcore.cli import COMMANDS, main
from sdcore.images import load_image
from sdcore.models import InstalledModel
from sdcore.testing.tiny import tiny_folder

Cli = Callable[..., tuple[int, str, str]]
Draw = Callable[..., list[str]]

PLUGIN = """
from typing import Literal
from pydantic import Field
from sdcore import Asset, Options, Plugin, hookimpl, ports

class Shout(Options):
    path: Asset
    weight: float = Field(1.0, ge=0, le=2, description="how loud")
    mode: Literal["high", "low"] = "high"
    more: tuple[Asset, ...] = ()
    note: str | None = None

class ShoutPlugin(Plugin):
    \"\"\"Shouts.\"\"\"

    name = "shout"
    options = Shout

    @hookimpl
    def register(self, registry):
        registry.add("cli_command", "shout", arguments)

    @hookimpl
    def output(self, run):
        return ports.metadata(lambda picture: {"loud": True})

def arguments(parser):
    parser.add_argument("word")
    parser.set_defaults(func=lambda args: print(args.word.upper()))
"""


def install(site: Path, name: str, body: str, factory: str) -> None:
    """A distribution with a plugin, made of two small files."""
    (site / f"plugin_{name}.py").write_text(body)
    info = site / f"sdcore_{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sdcore-{name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[sdcore.plugins]\n{name} = plugin_{name}:{factory}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which distributions are found, beside those that are installed."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    install(site, "shout", PLUGIN, "ShoutPlugin")
    install(site, "broken", "1 / 0\n", "Nothing")
    yield site
    for name in ("plugin_shout", "plugin_broken"):
        sys.modules.pop(name, None)


# --- help and usage


def test_help_lists_every_command(cli: Cli) -> None:
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    assert all(f"\n    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(cli: Cli, name: str) -> None:
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert "--verbose" in out
    assert "--quiet" in out


def test_usage_errors(cli: Cli) -> None:
    assert cli()[0] == 2
    code, _, err = cli("generat", "x")
    assert code == 2
    assert "there is no command 'generat'. Did you mean 'generate'?" in err
    assert cli("generate", "x", "--bogus")[0] == 2
    assert cli("record")[0] == 2


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["generate", "--help"], ["plugins", "list", "--no-plugins"]]
)
def test_what_needs_no_torch_imports_none(arguments: list[str]) -> None:
    code = (
        "import sys; from sdcore.cli import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_python_m_sdcore() -> None:
    done = subprocess.run([sys.executable, "-m", "sdcore", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("sdcore ")


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sdcore", "schedulers", "--no-plugins"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


# --- plugins


def test_plugins(cli: Cli, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDCORE_DISABLE", "other")
    install(site, "other", "", "Nothing")
    code, out, err = cli("plugins")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    told = rows["shout"].split()
    assert told[:6] == ["shout", "1.2", "sdcore-shout", "unknown", "register,", "output"]
    assert told[6:8] == ["undeclared", "undeclared"]
    assert told[-1] == "ok"
    assert "broken: its import failed: ZeroDivisionError" in rows["broken"]
    assert rows["other"].endswith("disabled")
    by_name = {item["name"]: item for item in json.loads(cli("plugins", "--json")[1])}
    assert [by_name[name]["state"] for name in ("broken", "other", "shout")] == ["broken", "disabled", "ok"]


def test_plugins_info(cli: Cli, site: Path) -> None:
    code, out, _ = cli("plugins", "info", "shout")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "shout: sdcore-shout 1.2, ok" in lines
    assert "Shouts." in lines
    assert "adds cli_command shout" in lines
    assert "path file required" in lines
    assert "weight number 1.0 >= 0, <= 2 how loud" in lines
    assert "mode high | low high" in lines
    assert "more tuple of file ()" in lines
    assert "note text none" in lines
    data = json.loads(cli("plugins", "info", "shout", "--json")[1])
    assert data["adds"] == [{"kind": "cli_command", "name": "shout"}]
    assert [row["option"] for row in data["options"]] == ["path", "weight", "mode", "more", "note"]
    schema = json.loads(cli("plugins", "info", "shout", "--json-schema")[1])
    assert schema["properties"]["weight"]["maximum"] == 2
    assert cli("plugins", "info", "broken")[0] == 1
    code, _, err = cli("plugins", "info", "shot")
    assert code == 2
    assert "Did you mean 'shout'?" in err


def test_a_broken_plugin_is_warned_of_unless_quiet(cli: Cli, site: Path, model: str) -> None:
    command = ["generate", "x", "--model", model, "--steps", "1", "-o"]
    code, _, err = cli(*command, "a.png")
    assert code == 0
    assert err.startswith("warning: plugin 'broken' (sdcore-broken 1.2) cannot be used")
    assert cli(*command, "b.png", "--quiet") == (0, "b.png\n", "")


def test_a_command_of_a_plugin(cli: Cli, site: Path) -> None:
    assert cli("shout", "hello") == (0, "HELLO\n", "")
    assert cli("shout")[0] == 2


# --- explain, models, schedulers, record


def test_explain(cli: Cli, model: str, glow: Path) -> None:
    arguments = ["explain", "x", "--model", model, "--plugin", glow, "--use", "glow:strength=0.1"]
    code, out, _ = cli(*arguments)
    assert code == 0
    assert any("decode.image" in line and "glow" in line for line in out.splitlines())
    rows = json.loads(cli(*arguments, "--json")[1])
    assert {row["plugin"] for row in rows if not row["default"]} == {"glow"}
    assert cli("explain", "--model", model)[0] == 0
    assert cli("explain", "--model", model, "--use", "nosuch")[0] == 2


def test_models(cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = json.loads(cli("models", "info", model, "--json")[1])
    assert (facts["family"], facts["size"], facts["multiple of"], facts["prediction"]) == ("sd1", "64x64", 4, "epsilon")
    assert facts["components"]["unet"]["dtype"] == "float32"
    assert len(facts["components"]["unet"]["sha256"]) == 64
    assert "PNDMScheduler" in cli("models", "info", model)[1]
    monkeypatch.setenv("SDCORE_MODEL", "two")
    one, two = (InstalledModel(name, f"{name} 1.0", Path(model)) for name in ("one", "two"))
    monkeypatch.setattr("sdcore.models.installed_models", lambda: [one, two])
    assert [row["default"] for row in json.loads(cli("models", "--json")[1])] == [False, True]
    assert [line.split()[:2] for line in cli("models")[1].splitlines()[1:]] == [["one", "one"], ["two", "yes"]]
    monkeypatch.setattr("sdcore.models.installed_models", list)
    assert "pip install sdcore-mini" in cli("models")[1]
    assert json.loads(cli("models", "list", "--json")[1]) == []


def test_schedulers(cli: Cli) -> None:
    out = cli("schedulers")[1]
    assert "\ndpmpp-2m " in out
    assert "-karras" in out
    assert "euler-a" in json.loads(cli("schedulers", "--json")[1])["schedulers"]


def test_record(cli: Cli, draw: Draw) -> None:
    draw("--seed", 3, "-o", "a.png")
    assert json.loads(cli("record", "a.png")[1])["seed"] == 3
    text = cli("record", "a.png", "--parameters")[1]
    assert text.startswith("a cat\nSteps: 2, ")
    Path("b.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    code, _, err = cli("record", "b.png")
    assert code == 1
    assert err.startswith("error: b.png")


# --- doctor and demo


def test_doctor(cli: Cli, model: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = cli("doctor", "--model", model)
    assert (code, err) == (0, "")
    lines = [line.split()[:2] for line in out.splitlines()]
    assert ["warn", "plugins"] in lines
    assert {name for _, name in lines} == {"python", "libraries", "devices", "plugins", "models", "cache", "picture"}
    assert lines[-1] == ["ok", "picture"]
    code, out, _ = cli("doctor", "--model", "nowhere")
    assert code == 1
    assert out.splitlines()[-1].startswith("fail  picture    ModelError: nowhere")


@pytest.mark.parametrize(
    ("default", "says"), [("two", "two (two 1.0), used where none is named"), ("", "name one with")]
)
def test_doctor_knows_whether_a_model_must_be_named(
    cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch, default: str, says: str
) -> None:
    found = [InstalledModel(name, f"{name} 1.0", Path(model)) for name in ("one", "two")]
    monkeypatch.setattr("sdcore.models.installed_models", lambda: found)
    monkeypatch.setenv("SDCORE_MODEL", default)
    _, out, _ = cli("doctor", "--model", model)
    assert says in out
    assert ("used where" in out) is bool(default)


def test_doctor_finds_an_old_library(cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdcore.cli import doctor

    version = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: {"diffusers": "0.1", "torchsde": None}.get(name, version(name))
    )
    code, out, _ = cli("doctor", "--model", model)
    assert code == 1
    assert "fail  libraries  diffusers 0.1 is here, <0.43,>=0.42 is needed" in out
    assert "fail  libraries  torchsde is not installed: pip install" in out


def test_demo(cli: Cli, model: str) -> None:
    code, out, err = cli("demo", "--out", "made", "--model", model, "--steps", "3")
    assert (code, err) == (0, "")
    files = list(Path("made").iterdir())
    assert len(files) == 19
    assert len(out.splitlines()) == 19 + 2
    sheet = load_image("made/sheet.png")
    assert sheet.width > 4 * 128
    assert sheet.height > 4 * 128


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sdcore", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("sdcore ")


def test_nothing_printed_can_control_the_terminal(cli: Cli) -> None:
    code, _, err = cli("generate", "x", "--model", "\x1b]0;title\x07", "--use", "a")
    assert code == 1
    assert "\x1b" not in err
    assert "\x07" not in err


def test_another_family(cli: Cli) -> None:
    command = ["generate", "x", "--model", tiny_folder("sdxl"), "--steps", "1", "--seed", "1"]
    assert cli(*command, "-o", "a.png")[0] == 0
    assert cli("replay", "a.png", "--model", tiny_folder("sdxl"))[:2] == (0, "identical\n")
