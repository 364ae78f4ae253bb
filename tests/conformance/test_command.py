"""`sdcore check`: exit codes, what it prints, files, options from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdcore.cli import main
from sdcore.testing.conformance.base import PluginConformance
from sdcore.testing.conformance.catalogue import checks
from sdcore.testing.conformance.finding import from_file, names
from sdcore.testing.conformance.running import run_check

HERE = Path(__file__).parent
Cli = Callable[..., tuple[int, str, str]]
LAMP = '''
from pydantic import Field
from sdcore import Options, Plugin, hookimpl, ports
from sdcore.testing import PluginConformance

class Lamp(Options):
    light: float = Field(description="how bright")

class LampPlugin(Plugin):
    """Makes pictures brighter."""

    name = "lamp"
    options = Lamp

    @hookimpl
    def decode(self, run):
        (used,) = run.uses(Lamp)
        return ports.image(lambda picture, image: image.point(lambda value: int(value * used.light)))
'''


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def lamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PluginConformance, "families", ("sd1",))
    path = tmp_path / "lamp.py"
    path.write_text(LAMP)
    return path


def test_a_failure_is_exit_code_1_and_says_why(cli: Cli) -> None:
    code, out, _ = cli("check", "--file", HERE / "bad" / "hooks.py", "--only", "hooks")
    assert code == 1
    assert re.search(r"hooks\s+FAIL\s+Bad.step has a hook's name but is not marked", out)
    code, out, _ = cli("check", "--file", HERE / "good.py", "--only", "hooks", "--only", "options")
    assert code == 0
    assert re.search(r"options\s+pass\s+its options are documented", out)


def test_json_has_every_check_with_its_outcome(cli: Cli) -> None:
    code, out, _ = cli("check", "--json", "--file", HERE / "bad" / "metadata.py", "--only", "metadata")
    (report,) = json.loads(out)
    assert code == 1
    assert (report["plugin"], report["tier"], report["ok"]) == ("bad", "cpu", False)
    (outcome,) = report["checks"]
    assert (outcome["check"], outcome["outcome"]) == ("metadata", "failed")
    assert "docstring" in outcome["why"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to check"),
        (("temlate",), "did you mean 'template'|Did you mean 'template'"),
        (("template", "--only", "effects"), "Did you mean 'effect'"),
        (("template", "--use", "lora:path=x"), "--use names lora, which is not checked"),
        (("--file", "nowhere.py"), "there is no such file"),
    ],
)
def test_what_cannot_be_checked_is_exit_code_2(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = cli("check", *arguments)
    assert code == 2
    assert re.search(says, err), err


def test_the_list_needs_no_plugin_and_names_all(cli: Cli) -> None:
    code, out, _ = cli("check", "--list")
    assert code == 0
    assert all(re.search(rf"^\d+ +{name} ", out, re.MULTILINE) for name in checks())


def test_options_that_are_needed_come_from_the_command_line(cli: Cli, lamp: Path) -> None:
    code, out, _ = cli("check", "--file", lamp, "--only", "effect")
    assert code == 1
    assert "light" in out
    assert "PluginConformance" in out, "it says how to give options"
    code, out, _ = cli("check", "--file", lamp, "--only", "effect", "--only", "neutral", "--use", "lamp:light=0.5")
    assert code == 0, out


def test_exceptions_are_shown_with_their_reasons_and_may_not_be_stale(lamp: Path) -> None:
    lamp.write_text(
        LAMP
        + """
class LampConformance(PluginConformance):
    plugin = "lamp"
    options = ({"light": 1.0},)
    exceptions = {"effect": "a lamp of strength 1 is glass", "hooks": "there is none"}
"""
    )
    (subject,) = from_file(str(lamp))
    found = {name: run_check(subject, checks()[name]) for name in ("effect", "hooks")}
    assert (found["effect"].state, found["effect"].detail) == ("exception", "a lamp of strength 1 is glass")
    assert found["hooks"].state == "failed"
    assert "out of date" in found["hooks"].detail


def test_a_name_that_is_nearly_a_hook_is_found(lamp: Path) -> None:
    lamp.write_text(LAMP.replace("    @hookimpl\n    def decode", "    def decoded"))
    (subject,) = from_file(str(lamp))
    outcome = run_check(subject, checks()["hooks"])
    assert outcome.state == "failed"
    assert "did you mean 'decode'" in outcome.detail


def test_it_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; from sdcore.cli import main; sys.exit(main(['check', 'train',"
    code += " '--only', 'hooks', '--only', 'import', '--only', 'effect']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 passed, 1 not applicable" in done.stdout


def test_everything_installed_is_found() -> None:
    assert {"lora", "controlnet", "inpaint", "outpaint", "watermark", "train", "mini", "mini-canny"} <= set(names())
