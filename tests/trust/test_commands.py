"""``sdcore plugins``: what it tells about trust; ``lock``, ``verify`` and ``--locked``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdcore import Access
from sdcore.cli import main
from sdcore.plugin_class import check_class
from sdcore.testing.tiny import tiny_folder

COMMAND = """
from sdcore import Plugin, hookimpl

class ThePlugin(Plugin):
    name = "one"

    @hookimpl
    def register(self, registry):
        registry.add("cli_command", "tool", fill)

def fill(parser):
    parser.add_subparsers().add_parser("part").set_defaults(func=lambda args: print("ran"))
"""
Install = Callable[..., Path]
Cli = Callable[..., tuple[int, str, str]]
DECLARED = 'access = Access(network=True, files=("read",), weights=("safetensors",), when="on Mondays")'


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def imported() -> list[str]:
    return [name for name in sys.modules if name.startswith(("locked_", "imported_"))]


def test_plugins_tell_where_they_are_from_and_what_they_touch(install: Install, cli: Cli) -> None:
    install("one", access=DECLARED)
    install("two", direct={"url": "file:///srv/two", "dir_info": {}})
    code, out, err = cli("plugins")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line}
    facts = {item["name"]: item for item in json.loads(cli("plugins", "--json")[1])}
    short = facts["one"]["sha256"][:12]
    assert rows["one"] == f"one 1.0 sdcore-one index decode network, reads files safetensors {short} ok"
    assert " folder decode undeclared undeclared " in rows["two"]
    assert facts["one"]["access"] == {
        "network": True,
        "files": ["read"],
        "weights": ["safetensors"],
        "when": "on Mondays",
    }
    assert facts["two"]["access"] is None
    assert facts["two"]["from"] == f"folder {Path('/srv/two')}"
    assert (facts["one"]["hashed"], facts["one"]["problems"]) == ("installed", [])
    info = " ".join(cli("plugins", "info", "one")[1].split())
    assert "touches network, reads files weights safetensors when on Mondays from index (pip) sha256" in info


def test_a_package_that_was_changed_is_listed_and_not_imported(install: Install, cli: Cli) -> None:
    install("good")
    (install("one") / "plugin.py").write_text("raise SystemExit")
    code, out, _ = cli("plugins")
    assert code == 0
    assert "broken: locked_one/plugin.py is not what was installed; reinstall sdcore-one" in out
    assert {name for name in imported() if "one" in name} == set()
    assert "imported_good" in imported()


def test_lock_and_verify(install: Install, cli: Cli, tmp_path: Path) -> None:
    package = install("one")
    code, out, err = cli("plugins", "lock")
    assert (code, err) == (0, "")
    assert "sdcore-one 1.0 installed" in " ".join(out.split())
    assert cli("plugins", "verify")[:2] == (0, "identical to sdcore.lock: 2 packages\n")
    code, _, err = cli("plugins", "lock")
    assert code == 1
    assert "exists already" in err
    assert cli("plugins", "lock", "other.lock")[0] == 0
    (package / "plugin.py").write_text("")
    code, out, _ = cli("plugins", "verify")
    assert code == 1
    assert out.endswith("1 difference from sdcore.lock\n")
    assert json.loads(cli("plugins", "verify", "--json")[1])["identical"] is False
    code, _, err = cli("plugins", "lock", "--overwrite")
    assert code == 2
    assert "nothing was locked" in err
    assert Path("sdcore.lock").read_text() == Path("other.lock").read_text()
    assert cli("plugins", "verify", "nowhere.lock")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.lock", "sdcore.lock", "site"]
    assert imported() == []


@pytest.mark.parametrize("command", ["generate", "explain", "replay", "schedulers", "train", "nosuch"])
@pytest.mark.parametrize("flag", [("--locked", "sdcore.lock"), ("--locked=sdcore.lock",)])
def test_every_command_refuses_what_was_not_locked_before_it_imports_any(
    install: Install, cli: Cli, command: str, flag: tuple[str, ...]
) -> None:
    install("one")
    assert cli("plugins", "lock")[0] == 0
    install("extra")
    code, out, err = cli(command, "x", *flag)
    assert (code, out) == (2, "")
    assert "sdcore-extra 1.0 is installed and not locked" in err
    assert imported() == []


def test_locked_commands_run(install: Install, cli: Cli) -> None:
    install("one")
    assert cli("plugins", "lock")[0] == 0
    model = ("--model", tiny_folder("sd1"), "--steps", "1", "--use", "one")
    assert cli("explain", "a cat", *model, "--locked", "sdcore.lock")[0] == 0
    assert cli("generate", "a cat", *model, "-o", "cat.png", "--locked", "sdcore.lock")[:2] == (0, "cat.png\n")
    code, out, _ = cli("replay", "cat.png", *model[:2], "--locked", "sdcore.lock")
    assert (code, out) == (0, "identical\n")


def test_a_plugin_file_is_not_locked_and_so_refused(install: Install, cli: Cli, tmp_path: Path) -> None:
    assert cli("plugins", "lock")[0] == 0
    (tmp_path / "mine.py").write_text("raise SystemExit(9)")
    code, _, err = cli("schedulers", "--plugin", "mine.py", "--locked", "sdcore.lock")
    assert code == 2
    assert "--plugin takes code from a file that no lock knows" in err


def test_a_flag_that_is_cut_short_does_not_go_unheeded(install: Install, cli: Cli) -> None:
    """Parsers of plugins may take beginnings of flags, which are known only after plugins were imported."""
    (install("one", record=False) / "plugin.py").write_text(COMMAND)
    assert cli("plugins", "lock")[0] == 0
    code, out, err = cli("tool", "part", "--lock", "sdcore.lock")
    assert (code, out) == (2, "")
    assert "write --locked in full" in err
    assert cli("tool", "part", "--locked", "sdcore.lock")[:2] == (0, "ran\n")


# --- the declaration


def test_a_declaration_is_checked() -> None:
    assert str(Access()) == "nothing"
    assert str(Access(network=True, files=("read", "write"))) == "network, reads and writes files"
    with pytest.raises(ValueError, match="holds 'delete'; it may hold read and write"):
        Access(files=("delete",))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"files is 'read'; write it as a tuple"):
        Access(files="read")  # type: ignore[arg-type]


def test_a_class_whose_access_is_no_declaration_is_refused() -> None:
    from sdcore import Plugin

    bad: Any = type("Bad", (Plugin,), {"name": "bad", "access": {"network": True}})
    assert "access is {'network': True}; it must be an sdcore.Access" in (check_class(bad, "bad") or "")


def test_every_plugin_of_this_repository_declares_its_access() -> None:
    from sdcore.discovery import discover

    root = Path(__file__).parents[2]
    ours = {path.parent.name for path in root.glob("plugins/*/pyproject.toml")} | {"sdcore-template"}
    found = [record for record in discover() if record.distribution in ours and record.factory is not None]
    assert len(found) >= 8
    assert [record.name for record in found if record.factory and record.factory.access is None] == []


def test_the_ports_of_a_plugin_are_told_without_a_run(cli: Cli) -> None:
    facts = json.loads(cli("plugins", "info", "template", "--json")[1])
    assert facts["ports"] == ["text.prompt", "decode.image"]
    assert json.loads(cli("plugins", "info", "dreambooth", "--json")[1])["ports"] == []  # those of the trainer
    code, shown, _ = cli("plugins", "info", "lora")
    assert code == 0
    assert "weights.weights" in shown
