"""The tutorial is carried out as a reader would: its files are written, its commands run, in its order."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sdcore.cli import main

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial-first-plugin.md"
FILE = re.compile(r"(?:[Rr]eplace|And)[^`]*`(?P<name>[\w/.]+\.py)` by[^`]*:$")


class Reader:
    """Follows a page in a folder, without network and without touching the environment."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._top = folder
        self._patch = monkeypatch
        self.files: list[str] = []
        self.commands: list[list[str]] = []

    def follow(self, page: Path) -> None:
        """Carry out every block."""
        text = page.read_text()
        for block in re.finditer(r"^```(python|shell)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            paragraph = " ".join(text[: block.start()].rstrip().rpartition("\n\n")[2].split())
            named = FILE.search(paragraph)
            if block[1] == "shell":
                for line in block[2].splitlines():
                    for command in line.split(" && "):
                        self.do(shlex.split(command))
            elif named:
                Path(named["name"]).write_text(block[2])
                self.files.append(named["name"])
            else:
                self._forget()
                exec(compile(block[2], str(page), "exec"), {"__name__": "block"})

    def do(self, command: list[str]) -> None:
        """Carry out a command."""
        self.commands.append(command)
        program, *arguments = command
        if program == "cd":
            self._patch.chdir(arguments[0])
        elif program == "pip":
            self._install(Path(arguments[-1].removesuffix("[dev]")))
        elif program == "pytest" and not any(name.startswith("tests/") for name in self.files):
            pass  # the template's own tests, which plugin_template/tests are
        elif program == "sdcore":
            self._forget()
            few = ["--steps", "4"] if arguments[0] == "generate" else []  # what is seen is the same
            assert main([*arguments, *few]) == 0, command
        else:
            done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    def _install(self, source: Path) -> None:
        """As `pip install -e`, into a folder that only this test sees."""
        site = self._top / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--target", site, source], check=True, capture_output=True)
        shutil.rmtree(site / "sdcore_glow")
        paths = [str(source.resolve() / "src"), str(site)]
        for path in reversed(paths):
            self._patch.syspath_prepend(path)
        self._patch.setenv("PYTHONPATH", ":".join([*paths, *(path for path in sys.path if path)]))

    def _forget(self) -> None:
        """Every command is a process of its own for a reader, and sees the files as they are now."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "sdcore_glow"]:
            del sys.modules[name]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SDCORE_MODEL", raising=False)
    return Reader(tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_tutorial_works(reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader.follow(PAGE)
    capsys.readouterr()
    package = ["src/sdcore_glow/effect.py", "src/sdcore_glow/__init__.py"]
    assert reader.files == ["glow.py", *package, "tests/test_glow.py", "tests/test_conformance.py"]
    assert len([command for command in reader.commands if command[0] == "pytest"]) == 2
    plain, warm, glow, both = (Image.open(tmp_path / f"{name}.png") for name in ("before", "warm", "glow", "both"))
    assert len({image.tobytes() for image in (plain, warm, glow, both)}) == 4
    assert _light(glow) > _light(plain)
    assert (tmp_path / "sdcore-glow" / "effect.png").is_file()


def _light(image: Image.Image) -> int:
    return int(image.convert("L").resize((1, 1)).tobytes()[0])
