"""The documentation is true: its code runs, its generated pages are fresh, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sdcore import Engine, Plugin, RequestError, SdcoreError, Withheld
from sdcore.plugin import HOOKS
from sdcore.ports import PORTS
from sdcore.testing.tiny import tiny_folder

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md"),
                      *ROOT.glob("plugin_template/*.md"), *ROOT.glob("examples/*/README.md")]
)  # fmt: skip
SMALL = {"seed": 1, "steps": 2, "scheduler": "ddim", "height": 32, "width": 32}


def _example(hook: str) -> type[Plugin]:
    path = ROOT / "docs" / "examples" / f"{hook}.py"
    spec = importlib.util.spec_from_file_location(f"example_{hook}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugins = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Plugin) and v is not Plugin]
    return plugins[0]


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_hook_and_port_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "hooks.md").read_text()
    for hook in HOOKS:
        assert f"\n## {hook}\n" in text
        assert f"def {hook}(self, " in text
    for port in PORTS:
        assert f"`ports.{port.name}`" in text


def test_the_changelog_and_readme_count_hooks_and_ports_right() -> None:
    for page in ("README.md", "CHANGELOG.md"):
        text = (ROOT / page).read_text()
        assert re.search(rf"\b{len(PORTS)} ports\b", text), f"{page}: there are {len(PORTS)} ports"
        assert re.search(rf"\b{len(HOOKS)} hooks\b", text), f"{page}: there are {len(HOOKS)} hooks"


@pytest.mark.parametrize("hook", HOOKS)
def test_the_smallest_example_of_a_hook_has_an_effect(hook: str) -> None:
    plugin = _example(hook)
    engine = Engine.load(tiny_folder("sd1"), plugins=[plugin])
    plain = engine.generate("a red apple", **SMALL)
    if hook == "judge":
        with pytest.raises(Withheld, match="weapon"):
            engine.generate("a weapon", **SMALL, use=[plugin.name])
        return
    extra = {"scheduler": "fine-euler"} if hook == "register" else {}
    used = engine.generate("a red apple", **{**SMALL, **extra}, use=[] if hook == "register" else [plugin.name])
    if hook == "plan":
        assert used.request.steps == 4
    elif hook == "output":
        assert used.record.metadata["colour"]["rgb"] == list(used.image.resize((1, 1)).getpixel((0, 0)))
    elif hook == "observe":
        assert engine.host.plugin("count").steps == 2
    elif hook == "whole_run":
        assert used.image.size == (64, 64)
    else:
        assert used.image.tobytes() != plain.image.tobytes()
    assert engine.generate("a red apple", **SMALL).image.tobytes() == plain.image.tobytes()


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


# The first page that people see with every test; the others take a minute, and `make test-docs` runs them.
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page == ROOT / "README.md" else pytest.mark.slow) for page in PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name == "hooks.md" and page.parent.name == "reference":
        pytest.skip("its blocks are signatures, and the examples that a test of their own runs")
    if page.name == "credentials.md":
        pytest.importorskip("c2pa")
    if page.name == "tutorial-first-plugin.md":
        pytest.skip("tests/test_tutorial.py carries it out as a reader would")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("input.png")
    namespace: dict[str, object] = {"__name__": "block"}
    for block in _blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_errors_promised_as_early_are_request_errors() -> None:
    assert issubclass(RequestError, SdcoreError)
