"""Commands of plugins, made of the kit: options as flags, pictures drawn and written, sub-commands, help."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sdcore.cli import main
from sdcore.picture_files import read_record
from sdcore.testing.tiny import tiny_folder

from .test_commands import install

PLUGIN = """
from typing import Literal
from pydantic import Field
from sdcore import Options, Plugin, hookimpl, ports
from sdcore.cli import kit

class Grey(Options):
    amount: float = Field(1.0, ge=0, le=1, description="how grey")
    only_dark: bool = Field(False, description="leave light pixels")
    box: tuple[int, int] = (0, 0)
    mode: Literal["mean", "luma"] = "luma"

class GreyPlugin(Plugin):
    name = "grey"
    options = Grey

    @hookimpl
    def register(self, registry):
        registry.add("cli_command", "grey", fill)
        registry.add("cli_command", "greys", fill_inner)

    @hookimpl
    def decode(self, run):
        return ports.image(lambda picture, image: image.convert("L").convert("RGB"))

def fill(parser):
    '''Draw in grey.'''
    kit.add_request_flags(parser)
    kit.add_engine_flags(parser)
    kit.add_output_flags(parser)
    kit.add_options_flags(parser, Grey, skip=("mode",), spell={"box": "grey-box"})
    parser.set_defaults(func=run)

def run(args):
    request = kit.request_of(args)
    options = kit.options_of(args, Grey, mode="mean")
    kit.say(options.model_dump_json())
    result, files = kit.draw(args, request.replace(use=(*request.use, options)))
    kit.say(f"{len(result.images)} {files[0].name}")

def fill_inner(parser):
    '''Say something grey.'''
    inner = parser.add_subparsers()
    one = inner.add_parser("one")
    one.add_argument("word")
    one.set_defaults(func=lambda args: kit.say(f"{args.word} {args.quiet}"))
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    install(site, "grey", PLUGIN, "GreyPlugin")


def test_a_command_draws_with_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grey.png"
    flags = ["--amount", "0.5", "--only-dark", "--grey-box", "[3, 4]", "--steps", "1", "--seed", "3"]
    assert main(["grey", "a cat", *flags, "--model", str(tiny_folder("sd1")), "-o", str(out), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '{"amount":0.5,"only_dark":true,"box":[3,4],"mode":"mean"}'
    assert lines[-1] == "1 grey.png"
    with Image.open(out) as picture:
        red, green, _ = picture.convert("RGB").split()
    assert red.tobytes() == green.tobytes()
    assert read_record(out).request["use"][0]["options"]["amount"] == 0.5


@pytest.mark.parametrize(
    ("flags", "message"), [(["--amount", "2"], "amount: .*less than or equal to 1"), (["--amount", "x"], "amount")]
)
def test_a_wrong_option_is_an_error_before_the_model_is_loaded(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grey", "a cat", "--model", "no/such/model/at/all", *flags]) == 2
    error = capsys.readouterr().err
    assert "amount" in error
    assert "no/such" not in error


def test_help_shows_commands_of_plugins_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "grey draw in grey" in text
    assert "greys say something grey" in text
    assert main(["grey", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "how grey (>= 0, <= 1, default 1.0)" in text
    assert "--only-dark, --no-only-dark" in text
    assert "--mode" not in text.replace("--model", "")


def test_sub_commands_take_the_common_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["greys", "one", "fog", "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == "fog True"
    assert main(["greys", "--quiet", "one", "fog"]) == 0
    assert capsys.readouterr().out.strip() == "fog True"
    assert main(["greys", "one", "fog", "--verbose"]) == 0
    assert capsys.readouterr().out.strip() == "fog False"
    assert main(["greys", "two"]) == 2
