"""Every `sdcore` command of the documentation is carried out as it stands, with stand-ins for the files that it names.

Commands of a page run one after the other in one folder. `pip` and `make` lines are what `make test-packages` and the
make targets themselves run. A block that cannot run here says why in a comment before it: `<!-- not run: ... -->`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sdcore.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/*.md", "plugin_template/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if "```sh\n" in path.read_text()
)
OTHER_PROGRAMS = ("pip", "make", "git", "cd", "python", "pytest", "npm", "curl", "export", "openssl", "twine")
SHORTER = {
    "train": ["--steps", "2"],
    "train dreambooth": ["--class-count", "2"],
    "train pivotal": ["--class-count", "2"],
    "check --all": ["--only", "metadata"],
    "watermark bench": ["--schemes", "spread", "--search", "fast", "--limit", "1"],
}
"""Appended to what begins so: argparse takes the last of a flag that is given twice."""

HERE = re.compile(r"^cat > (\S+) <<'END'\n(.*?)^END\n", re.M | re.S)

pytestmark = pytest.mark.slow


def commands(page: Path) -> Iterator[list[str]]:
    """The sdcore commands of a page, as arguments; files that `echo` and `cat` between them make are written."""
    text = re.sub(r"^<!-- not run: .+? -->\n```sh\n.*?^```", "", page.read_text(), flags=re.M | re.S)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for name, lines in re.findall(HERE, block):
            Path(name).write_text(lines)
        block = re.sub(HERE, "", block)
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["echo"] and words[-2] == ">":
                Path(words[-1]).write_text(" ".join(words[1:-2]) + "\n")
            elif words[:1] == ["sdcore"]:
                yield words[1:]
            elif words and words[0] not in OTHER_PROGRAMS:
                pytest.fail(f"{page.relative_to(ROOT)}: `{line}` is neither sdcore nor one of {OTHER_PROGRAMS}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages name: pictures, masks, folders of them, models, LoRAs."""
    from sdcore import Engine
    from sdcore.scaffold import check_name, new_file
    from sdcore.testing.tiny_lora import tiny_lora

    monkeypatch.chdir(tmp_path)
    photo = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    ImageDraw.Draw(photo).rectangle((16, 8, 40, 31), fill=(200, 40, 60))
    for name in ("photo", "input", "edges", "cat", "picture", "apple"):
        photo.save(f"{name}.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save("mask.png")
    (tmp_path / "photos").mkdir()
    for number in range(4):
        photo.rotate(20 * number).save(tmp_path / "photos" / f"{number}.png")
        (tmp_path / "photos" / f"{number}.txt").write_text("a [token] box")
    for name in ("sd15", "mini", "model-folder"):
        (tmp_path / name).symlink_to(files("sdcore_mini") / "data", target_is_directory=True)
    for name in ("canny-folder", "inpaint-net"):
        (tmp_path / name).symlink_to(files("sdcore_mini_control") / "data", target_is_directory=True)
    (tmp_path / "lora.toml").write_text('data = [{path = "photos"}]\noutput = "from-toml"\nbatch_size = 2\n')
    new_file(check_name("mirror"), None)
    engine = Engine.load(plugins=())
    for seed, name in enumerate(("style", "face")):
        tiny_lora(f"{name}.safetensors", engine, seed=seed, scale=0.2)
    engine.close()
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("folder")
def test_the_commands_of_a_page_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, source in re.findall(r"Save this as `(\S+)`:\n\n```python\n(.*?)^```", page.read_text(), re.M | re.S):
        Path(name).write_text(source)
    for words in commands(page):
        _make_room(words)
        code = _run([*words, *(flag for start, flags in SHORTER.items() if _begins(words, start) for flag in flags)])
        shown = capsys.readouterr()
        verdict = words[0] == "verify" or words[:2] == ["watermark", "detect"]
        command = f"{page.relative_to(ROOT)}: sdcore {shlex.join(words)}"
        assert code == 0 or (verdict and code > 2), f"{command}: {shown.err[-2000:]}"


def _make_room(words: list[str]) -> None:
    """Readers choose names of their own: what an earlier command wrote, or a stand-in, is not in the way."""
    for flag, value in pairwise(words):
        named = flag in ("-o", "--out", "--trace", "--trace-picture") or (
            flag == "--sheet" and words[0] != "preprocess"
        )
        if named and Path(value).is_file():
            Path(value).unlink()


def _begins(words: list[str], start: str) -> bool:
    return words[: len(start.split())] == start.split()


def _run(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
