from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from sdcore.errors import ModelError
from sdcore.models import installed_models, load_model
from sdcore.testing.tiny import tiny_folder


def install(site: Path, name: str, body: str, entry: str | None = None) -> None:
    """A distribution with one entry point, made of two small files."""
    module = re.sub(r"\W", "_", f"model_{name}_{site.parent.name}")  # of this test only: imports are remembered
    (site / f"{module}.py").write_text(body)
    info = site / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[sdcore.models]\n{entry or name} = {module}:folder\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where distributions are looked for; modules are imported as always."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    find = sys.modules["importlib.metadata"].distributions
    monkeypatch.setattr("importlib.metadata.distributions", lambda **kw: find(path=[str(site)], **kw))
    return site


def good(family: str = "sd1") -> str:
    return f"def folder():\n    return {str(tiny_folder(family))!r}\n"


def test_none(site: Path) -> None:
    assert installed_models() == []
    with pytest.raises(ModelError, match="none is installed: `pip install sdcore-mini`"):
        load_model()


def test_the_only_one_is_the_default(site: Path) -> None:
    install(site, "one", good("sd2"))
    (found,) = installed_models()
    assert (found.name, found.distribution, found.path, found.error) == ("one", "one 1.2", tiny_folder("sd2"), None)
    for model in (load_model(), load_model("one")):
        assert (model.family, model.source) == ("sd2", "one")


def test_several_need_a_choice(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "one", good("sd1"))
    install(site, "two", good("sd2"))
    with pytest.raises(ModelError, match=r"one \(one 1.2\), two \(two 1.2\); name one, or set SDCORE_MODEL"):
        load_model()
    monkeypatch.setenv("SDCORE_MODEL", "two")
    assert load_model().family == "sd2"
    assert load_model("one").family == "sd1"
    monkeypatch.setenv("SDCORE_MODEL", "tow")
    with pytest.raises(ModelError, match=r"'tow'; did you mean 'two'\?"):
        load_model()


def variant(site: Path, name: str, of: str) -> None:
    folder = site.parent / name
    shutil.copytree(tiny_folder("sd2"), folder)
    (folder / "sdcore.json").write_text(json.dumps({"variant_of": of}))
    install(site, name, f"def folder():\n    return {str(folder)!r}\n")


def test_a_variant_leaves_the_default_to_what_it_is_a_variant_of(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant(site, "one-large", "one")
    assert load_model().source == "one-large"
    install(site, "one", good("sd1"))
    assert load_model().source == "one"
    assert load_model("one-large").family == "sd2"
    monkeypatch.setenv("SDCORE_MODEL", "one-large")
    assert load_model().source == "one-large"


def test_variants_of_each_other_need_a_choice(site: Path) -> None:
    variant(site, "one", "two")
    variant(site, "two", "one")
    with pytest.raises(ModelError, match=r"2 installed models would do"):
        load_model()


def test_two_of_the_same_name(site: Path) -> None:
    install(site, "one", good())
    install(site, "other", good(), entry="one")
    with pytest.raises(ModelError, match=r"2 installed models would do: one .*uninstall one"):
        load_model("one")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("other = 1", "AttributeError"),
        ("def folder(): return None", "TypeError"),
        ("def folder(): return '/nowhere/at/all'", "has no model_index.json"),
    ],
)
def test_a_broken_one_is_listed_and_harms_no_other(site: Path, body: str, words: str) -> None:
    name = "bad"
    install(site, name, body)
    install(site, "one", good())
    by_name = {model.name: model for model in installed_models()}
    assert by_name[name].path is None
    assert words in str(by_name[name].error)
    assert load_model("one").family == "sd1"
    with pytest.raises(ModelError, match=f"'{name}' .* is broken: .*Reinstall it"):
        load_model(name)


def test_a_name_is_not_a_path(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that happens to have the name of an installed model is reached as ./name."""
    install(site, "one", good("sd2"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").symlink_to(tiny_folder("sd1"))
    assert load_model("one").family == "sd2"
    assert load_model("./one").family == "sd1"
    assert load_model(Path("one")).family == "sd1"
