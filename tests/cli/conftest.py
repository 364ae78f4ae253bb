from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sdcore.cli import main
from sdcore.testing.tiny import tiny_folder

Cli = Callable[..., tuple[int, str, str]]

GLOW = """
from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports

class Glow(Options):
    strength: float = 0.5

class GlowPlugin(Plugin):
    name = "glow"
    options = Glow

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        (glow,) = run.uses(Glow)
        return ports.image(lambda picture, image: image.point(lambda value: int(value * (1 - glow.strength))))
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In an empty folder, with caches of its own, no network and no model chosen by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SDCORE_MODEL", raising=False)


@pytest.fixture(scope="session")
def model() -> str:
    return str(tiny_folder("sd1"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def draw(cli: Cli, model: str) -> Callable[..., list[str]]:
    """``sdcore generate`` with the tiny model; the lines on stdout."""

    def run(*arguments: object) -> list[str]:
        code, out, err = cli("generate", "a cat", "--model", model, "--steps", "2", *arguments)
        assert (code, err) == (0, "")
        return out.splitlines()

    return run


@pytest.fixture
def glow(tmp_path: Path) -> Path:
    file = tmp_path / "glow.py"
    file.write_text(GLOW)
    return file
