"""Wheels of all packages: built once, and what is wrong with one."""

from __future__ import annotations

import ast
import configparser
import email
import email.message
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PIN = "sdcore<0.2,>=0.1"
GROUP = "sdcore.plugins"
LICENCE_OF = {"sdcore-safety": "Apache-2.0 AND MIT"}
"""Where it is another than that of the code: the weights of nsfwjs are MIT."""
PLUGINS_OF = {
    "sdcore": (0,),
    "sdcore-mini": (0,),  # a model
    "sdcore-mini-128": (0,),  # a model
    "sdcore-mini-control": (0,),  # a ControlNet
    "sdcore-inpaint": (2,),
    "sdcore-dreambooth": (2,),
    "sdcore-watermark": (2,),  # watermark, and credentials
}
"""How many plugins a package may bring, where it is not one."""
DATA = {
    "sdcore": ("sdcore/models/data/bpe_simple_vocab_16e6.txt.gz", "sdcore/_template/pyproject.toml"),
    "sdcore-mini": ("sdcore_mini/data/model_index.json",),
    "sdcore-mini-128": ("sdcore_mini_128/data/model_index.json",),
    "sdcore-mini-control": ("sdcore_mini_control/data/diffusion_pytorch_model.safetensors",),
    "sdcore-controlnet": ("sdcore_controlnet/preprocess/pose/models/pose_detection.tflite",),
}
"""Files without which the package would install and not work."""
BROUGHT_ALONG = {"sdcore": {"pydantic-core"}}
"""What a package may import without naming it, because something that it names is of no use without it."""
_NEVER = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".git", ".venv", "eval", "recipe", "tests")
_TEMPLATE = "sdcore/_template/"


@dataclass(frozen=True)
class Wheel:
    """A built wheel."""

    path: Path
    source: Path

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of what is in it."""
        with zipfile.ZipFile(self.path) as archive:
            return tuple(archive.namelist())

    @cached_property
    def metadata(self) -> email.message.Message:
        """What `pip show` reads."""
        return email.message_from_string(self.read("METADATA"))

    @property
    def name(self) -> str:
        """Of the distribution."""
        return str(self.metadata["Name"])

    @property
    def module(self) -> str:
        """What it imports as."""
        return self.name.replace("-", "_")

    @property
    def requires(self) -> tuple[Requirement, ...]:
        """Its dependencies, those of extras too."""
        return tuple(Requirement(text) for text in self.metadata.get_all("Requires-Dist", ()))

    @property
    def optional(self) -> list[str]:
        """What only its extras ask for, as modules are called."""
        always = {need.name for need in self.requires if need.marker is None}
        return sorted({need.name.replace("-", "_") for need in self.requires if need.name not in always})

    @property
    def plugins(self) -> dict[str, str]:
        """Entry points of plugins."""
        return self.entry_points(GROUP)

    def entry_points(self, group: str) -> dict[str, str]:
        """Entry points of a group: name to value."""
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[method-assign, assignment]
        parser.read_string(self.read("entry_points.txt"))
        return dict(parser[group]) if parser.has_section(group) else {}

    def read(self, name: str) -> str:
        """A text of the dist-info folder; empty if there is none."""
        found = [file for file in self.files if file.endswith(f".dist-info/{name}")]
        if not found:
            return ""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(found[0]).decode()


def sources() -> list[Path]:
    """Folders of all packages: the core, every plugin, the template."""
    return [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")), ROOT / "plugin_template"]


def build(source: Path, out: Path) -> Wheel:
    """Build the wheel of a package, without isolation and so without network.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    before = set(out.glob("*.whl"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.name} cannot be built:\n{done.stdout}{done.stderr}")
    (built,) = set(out.glob("*.whl")) - before
    return Wheel(built, source)


def problems(wheel: Wheel, version: str) -> list[str]:
    """Everything that is wrong with a wheel.

    Args:
        wheel: of one of the packages of this repository, or of a plugin made from the template.
        version: that of all packages.
    """
    project: dict[str, Any] = tomllib.loads((wheel.source / "pyproject.toml").read_text())["project"]
    return [*_metadata(wheel, version, project), *_files(wheel), *_entry_points(wheel), *_imports(wheel)]


def _metadata(wheel: Wheel, version: str, project: dict[str, Any]) -> list[str]:
    found, meta = [], wheel.metadata
    if meta["Version"] != version:
        found.append(f"its version is {meta['Version']}, that of the others is {version}")
    if meta["Requires-Python"] != ">=3.11":
        found.append(f"it says Requires-Python: {meta['Requires-Python']}; the others say >=3.11")
    wanted = LICENCE_OF.get(wheel.name, "Apache-2.0")
    if meta["License-Expression"] != wanted:
        found.append(f"its licence is {meta['License-Expression']!r}, not {wanted}")
    if not meta["Summary"] or not meta.get_payload():
        found.append("it has no summary or no README")
    ours = [need for need in wheel.requires if canonicalize_name(need.name).startswith("sdcore")]
    pins = {str(need.specifier) for need in ours}
    if pins - {PIN.removeprefix("sdcore")}:
        found.append(f"it pins packages of sdcore to {sorted(pins)}; all are pinned to >=0.1,<0.2")
    if wheel.name != "sdcore" and not any(need.name == "sdcore" and need.marker is None for need in ours):
        found.append("it does not depend on sdcore")
    torch = [str(need.specifier) for need in wheel.requires if need.name == "torch"]
    if any(not text.startswith(">=") for text in torch):
        found.append(f"it asks for torch{torch[0]}; libraries give a floor, constraints.txt the version")
    licences = {file.rpartition("/")[2] for file in wheel.files if ".dist-info/licenses/" in file}
    needed = {path.name for path in wheel.source.glob("*") if path.name in ("LICENSE", "NOTICE")}
    if licences != needed | {"LICENSE"} or set(project.get("license-files", ())) != licences:
        found.append(f"it holds the licence files {sorted(licences)}; its folder has {sorted(needed)}")
    return found


def _files(wheel: Wheel) -> list[str]:
    found = []
    for file in wheel.files:
        parts = file.removeprefix(_TEMPLATE).split("/")
        allowed = {"tests"} if file.startswith(_TEMPLATE) else set()
        if set(parts) & (set(_NEVER) - allowed) or file.endswith((".pyc", ".tmp", ".orig")):
            found.append(f"it holds {file}, which no user needs")
        if not file.startswith((f"{wheel.module}/", f"{wheel.module}-")):
            found.append(f"it writes {file}, outside its own package")
    needed = (f"{wheel.module}/__init__.py", f"{wheel.module}/py.typed", *DATA.get(wheel.name, ()))
    found += [f"{name} is missing" for name in needed if name not in wheel.files]
    # What lies in the source and is no Python file is data, which a build can forget silently.
    package = next((f for f in (wheel.source / "src" / wheel.module, wheel.source / wheel.module) if f.is_dir()), None)
    for path in sorted(package.rglob("*")) if package else ():
        name = path.relative_to(package.parent).as_posix() if package else ""
        if path.is_file() and not set(path.parts) & set(_NEVER) and name not in wheel.files:
            found.append(f"{name} is missing")
    return list(dict.fromkeys(found))


def _entry_points(wheel: Wheel) -> list[str]:
    counts, plugins = PLUGINS_OF.get(wheel.name, (1,)), wheel.plugins
    found = []
    if len(plugins) not in counts:
        allowed = " or ".join(map(str, counts))
        found.append(f"it brings {len(plugins)} plugins ({', '.join(plugins) or 'none'}); it is to bring {allowed}")
    if plugins and wheel.name.removeprefix("sdcore-") not in plugins:
        found.append(f"none of its plugins ({', '.join(plugins)}) has the name of the package")
    found += [
        f"{name} leads to {at}"
        for name, at in plugins.items()
        if not at.startswith((f"{wheel.module}:", f"{wheel.module}."))
    ]
    return found


def _imports(wheel: Wheel) -> list[str]:
    """Packages that are imported when a module is, and that nothing declares; also extras count as declared."""
    declared = {canonicalize_name(need.name) for need in wheel.requires} | BROUGHT_ALONG.get(wheel.name, set())
    owners = importlib.metadata.packages_distributions()
    found: dict[str, str] = {}
    with zipfile.ZipFile(wheel.path) as archive:
        for file in wheel.files:
            if not file.endswith(".py") or file.startswith(_TEMPLATE):
                continue
            for module in _imported(ast.parse(archive.read(file)).body):
                top = module.partition(".")[0]
                if top in sys.stdlib_module_names or top == wheel.module:
                    continue
                if not {canonicalize_name(owner) for owner in owners.get(top, [top])} & declared:
                    found.setdefault(top, f"{file} imports {top}, which its dependencies do not name")
    return list(found.values())


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    """Absolute names that are imported outside of functions, and not for type checkers only."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imported(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _imported(getattr(node, field, []))
