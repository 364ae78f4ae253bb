"""Who may import whom, how large a module may be, and what `import sdcore` loads."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "sdcore"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(CORE.rglob("*.py"))
}
LIGHT = (
    *("plugin", "ports", "order", "stages", "request", "registry", "planning", "laws", "calling", "errors"),
    *("discovery", "plugin_class", "host", "stash", "uses"),
)
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "scipy", "PIL", "torchsde")
ABOVE = ("sdcore", "sdcore.cli", "sdcore.testing", "sdcore.replay")
"""What may import the engine, with what lies in these packages."""
LONG, LONGEST, MEDIAN = 400, 600, 150


def imports(path: Path, name: str, later: bool = False) -> Iterator[str]:
    """Absolute names of the modules that a module imports: when it is imported, and if ``later`` in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(tree.body, later):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


def _statements(body: list[ast.stmt], later: bool) -> Iterator[ast.stmt]:
    """Statements that are carried out, which those under TYPE_CHECKING are not."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _statements(node.orelse, later)
        elif later or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, field, [])
                for part in inner:
                    yield from _statements([part] if isinstance(part, ast.stmt) else part.body, later)


def reached(start: str) -> set[str]:
    """Everything that importing a module imports, packages above it included."""
    found: set[str] = set()
    open_ends = [start]
    while open_ends:
        name = open_ends.pop()
        if name in found:
            continue
        found.add(name)
        if name in MODULES:
            open_ends += imports(MODULES[name], name)
            open_ends += [name.rpartition(".")[0]] if "." in name else []
    return found


@pytest.mark.parametrize("name", LIGHT)
def test_what_authors_and_tools_read_needs_no_torch(name: str) -> None:
    heavy = {found for found in reached(f"sdcore.{name}") if found.partition(".")[0] in HEAVY}
    assert not heavy, f"sdcore.{name} imports {', '.join(sorted(heavy))}"


def test_the_list_of_light_modules_is_true() -> None:
    """What the test above reads from the source, seen in a process."""
    code = "import sys; " + "; ".join(f"import sdcore.{name}" for name in LIGHT)
    code += f"; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_sdcore_loads_none_of_the_large_packages() -> None:
    code = (
        f"import sdcore, sys; print([n for n in {(*HEAVY, 'pydantic', 'pluggy')!r} if n in sys.modules], dir(sdcore))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] [")


def test_every_public_name_is_there_and_named_once_for_types() -> None:
    import sdcore

    for name in sdcore.__all__:
        assert getattr(sdcore, name) is not None
    tree = ast.parse((CORE / "__init__.py").read_text(encoding="utf-8"))
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed - {None, "annotations", "TYPE_CHECKING", "Any"} == set(sdcore.__all__) - {"__version__"}


def test_only_what_lies_above_the_engine_imports_it() -> None:
    for name, path in MODULES.items():
        above = name in (*ABOVE, "sdcore.engine") or name.startswith(tuple(f"{package}." for package in ABOVE[1:]))
        assert above or "sdcore.engine" not in imports(path, name, later=True), f"{name} imports the engine"


def test_the_core_imports_no_plugin_by_name() -> None:
    for name, path in MODULES.items():
        for found in imports(path, name, later=True):
            assert not found.startswith("sdcore_"), f"{name} imports {found}"


def test_plugins_import_sdcore_and_never_each_other() -> None:
    for package in sorted((ROOT / "plugins").glob("*/src/*")):
        for path in package.rglob("*.py"):
            name = f"{package.name}.{path.stem}"
            for found in imports(path, name, later=True):
                other = found.partition(".")[0]
                # The trainer is what training plugins are written on, as sdcore is for the others.
                known = (package.name, "sdcore_train")
                public = (package.parent.parent.name, found) == ("sdcore-mini-control", "sdcore_controlnet")
                assert not other.startswith("sdcore_") or other in known or public, (
                    f"{path.relative_to(ROOT)} imports {found}"
                )


def test_modules_are_small() -> None:
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert statistics.median(sizes.values()) <= MEDIAN
    for name, size in sizes.items():
        if size > LONG:
            docstring = ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8"))) or ""
            assert "long because" in docstring, (
                f"{name} has {size} lines; say in its docstring why it is long because ..."
            )
        assert size <= LONGEST, f"{name} has {size} lines"


def test_every_module_says_what_it_is_and_none_is_called_utils() -> None:
    for name, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name} has no docstring"
        assert "util" not in path.stem
        assert "helper" not in path.stem
