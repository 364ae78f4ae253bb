"""`sdcore new`: a copy of the template under another name, in which nothing of the template's name is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sdcore.scaffold import LONGEST, Names, check_name, new_package, template_folder
from sdcore.testing.tiny import tiny_folder

Cli = Callable[..., tuple[int, str, str]]
NAMES = ("glow", "my-2nd-plugin", "x", "a-rather-long-name-of-a-plugin")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_replaced_everywhere(cli: Cli, name: str) -> None:
    code, out, err = cli("new", name)
    assert (code, err) == (0, "")
    names, folder = Names(name), Path(f"sdcore-{name}")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"sdcore-{name}"
    assert project["entry-points"]["sdcore.plugins"] == {name: f"{names.module}:{names.options}Plugin"}
    assert (folder / "src" / names.module / "py.typed").is_file()
    for path in folder.rglob("*"):
        assert "template" not in path.name.lower()
        if path.suffix not in ("", ".png", ".typed") and path.is_file():
            assert "template" not in path.read_text().lower(), path
    assert len([line for line in out.splitlines() if line.startswith("  ")]) == 3
    for check in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *check, "--no-cache", folder], check=True, capture_output=True)


def test_the_longest_name_is_among_those_tested() -> None:
    assert max(map(len, NAMES)) == LONGEST


def test_it_has_all_files_of_the_template_and_at_most_ten(cli: Cli) -> None:
    cli("new", "glow")
    written = {path.relative_to("sdcore-glow").as_posix() for path in Path("sdcore-glow").rglob("*") if path.is_file()}
    assert {"LICENSE", "README.md", "effect.png", ".github/workflows/test.yml"} < written
    assert len(written) <= 10


def test_a_name_with_an_underscore_class_and_file() -> None:
    names = Names("my-glow")
    assert names.put_into("src/sdcore_template/x") == "src/sdcore_my_glow/x"
    assert names.put_into("--plugin template.py --use template:a=1") == "--plugin my_glow.py --use my-glow:a=1"
    assert names.put_into("TemplatePlugin of sdcore-template") == "MyGlowPlugin of sdcore-my-glow"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("My Glow", "Did you mean 'my-glow'?"),
        ("my_glow", "Did you mean 'my-glow'?"),
        ("2nd", "starts with a letter"),
        ("../glow", "Did you mean 'glow'?"),
        ("glöw", "lower-case letters"),
        ("", "lower-case letters"),
        ("class", "a word of Python's own"),
        ("none", "a word of Python's own"),
        ("installed", "means something else to sdcore"),
        ("template", "means something else to sdcore"),
        ("options", "would name a class Options"),
        ("sdcore-glow", "sdcore new glow"),
        ("a" * 31, "31 characters"),
    ],
)
def test_names_that_cannot_be(cli: Cli, name: str, told: str) -> None:
    code, _, err = cli("new", name)
    assert code == 2
    assert told in err
    assert list(Path().iterdir()) == []


def test_the_name_of_an_installed_plugin(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "sdcore_taken-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sdcore-taken\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[sdcore.plugins]\ntaken = nowhere:Nothing\n")
    monkeypatch.syspath_prepend(str(info.parent))
    code, _, err = cli("new", "taken")
    assert code == 2
    assert "plugin 'taken' exists: sdcore-taken 1.2 is installed" in err


def test_what_exists_is_not_touched(cli: Cli) -> None:
    Path("sdcore-glow").mkdir()
    Path("glow.py").write_text("mine")
    for arguments in (["new", "glow"], ["new", "glow", "--single-file"], ["new", "glow", "--out", "nowhere/x"]):
        code, _, err = cli(*arguments)
        assert code == 1
        assert "choose another place" in err
    assert Path("glow.py").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["glow.py", "sdcore-glow"]


def test_where_it_is_written(cli: Cli) -> None:
    Path("mine").mkdir()
    assert cli("new", "glow", "--out", "mine")[0] == 0
    assert cli("new", "glow", "--out", "mine/other")[0] == 0
    assert cli("new", "glow", "--out", "mine/", "--single-file")[0] == 0
    assert sorted(path.name for path in Path("mine").iterdir()) == ["glow.py", "other", "sdcore-glow"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        new_package(check_name("glow"), tmp_path / "glow")
    assert list(tmp_path.iterdir()) == []


def test_the_author(cli: Cli) -> None:
    assert cli("new", "glow", "--author", 'Zoë "Template" O\'Neill <zoe@example.org>')[0] == 0
    project = tomllib.loads(Path("sdcore-glow/pyproject.toml").read_text())["project"]
    assert project["authors"] == [{"name": 'Zoë "Template" O\'Neill', "email": "zoe@example.org"}]
    code, _, err = cli("new", "other", "--author", "<zoe>")
    assert code == 2
    assert "cannot be read" in err


def test_caches_of_the_template_are_left_out() -> None:
    assert (template_folder() / "pyproject.toml").is_file()
    cache = template_folder() / "src" / "sdcore_template" / "__pycache__"
    cache.mkdir(exist_ok=True)
    folder = new_package(check_name("glow"))
    assert not list(folder.rglob("__pycache__"))


def test_a_single_file_is_used_without_packaging(cli: Cli, draw: Callable[..., list[str]]) -> None:
    code, out, _ = cli("new", "my-glow", "--single-file")
    assert code == 0
    assert "--plugin my_glow.py" in out
    assert "template" not in Path("my_glow.py").read_text().lower()
    draw("--seed", "1", "-o", "plain.png")
    draw("--seed", "1", "-o", "warm.png", "--plugin", "./my_glow.py", "--use", "my-glow:warmth=1")
    plain, warm = (Image.open(name).convert("RGB") for name in ("plain.png", "warm.png"))
    (red, _, blue), (redder, _, less_blue) = (image.resize((1, 1)).getpixel((0, 0)) for image in (plain, warm))
    assert redder > red
    assert less_blue < blue


@pytest.mark.slow
def test_it_installs_passes_its_tests_and_draws(cli: Cli, tmp_path: Path) -> None:
    """Without network: everything that it needs is installed here."""
    cli("new", "my-glow")
    venv.create("env", with_pip=False)
    (site,) = Path("env").glob("lib/python*/site-packages")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path) + "\n")
    python = Path("env/bin/python").absolute()
    environment = {**os.environ, "PYTHONPATH": "", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def do(*command: object, **more: object) -> str:
        done = subprocess.run(
            [str(part) for part in command], env=environment, capture_output=True, text=True, check=False, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    do(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-build-isolation",
        "./sdcore-my-glow",
    )
    do(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd="sdcore-my-glow")
    listed = json.loads(do(python, "-m", "sdcore", "plugins", "--json"))
    assert {"my-glow": "ok"}.items() <= {record["name"]: record["state"] for record in listed}.items()
    draw = (python, "-m", "sdcore", "generate", "a cat", "--model", tiny_folder("sd1"), "--steps", "2", "--seed", "1")
    do(*draw, "-o", "plain.png")
    do(*draw, "-o", "warm.png", "--use", "my-glow:warmth=1")
    assert Path("plain.png").read_bytes() != Path("warm.png").read_bytes()
