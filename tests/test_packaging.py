"""Packages move in lockstep and say the same of themselves."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted([*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "plugin_template" / "pyproject.toml"])


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_a_package_fits_the_core(path: Path) -> None:
    core, package = _read(ROOT / "pyproject.toml")["project"], _read(path)["project"]
    name = package["name"]
    assert package["version"] == core["version"]
    assert "sdcore>=0.1,<0.2" in package["dependencies"]
    assert package["requires-python"] == core["requires-python"]
    groups = package["entry-points"]
    assert set(groups) <= {"sdcore.plugins", "sdcore.models", "sdcore.controlnets"}
    names = [entry for group, entries in groups.items() if group != "sdcore.controlnets" for entry in entries]
    # One package may bring several plugins; the first has the package's name. Nets are named for what they follow.
    assert not names or names[0] == name.removeprefix("sdcore-")
    module = name.replace("-", "_")
    homes = [value.partition(":")[0] for group in groups.values() for value in group.values()]
    assert all(home == module or home.startswith(f"{module}.") for home in homes)
    for file in ("README.md", "LICENSE", f"src/{module}/py.typed"):
        assert (path.parent / file).exists(), file


def test_torch_is_pinned_only_in_the_constraints() -> None:
    assert (ROOT / "constraints.txt").read_text().strip() == "torch==2.13.0"
    dependencies = _read(ROOT / "pyproject.toml")["project"]["dependencies"]
    assert [d for d in dependencies if d.startswith("torch>")] == ["torch>=2.4"]


def test_no_file_holds_a_path_of_a_machine() -> None:
    suspicious = [f"/{name}/" for name in ("work", "root")]
    for path in ROOT.rglob("*"):
        if path.suffix in (".py", ".md", ".toml", ".json") and not set(path.parts) & {
            ".venv",
            ".git",
            "demo-out",
            "runs",
        }:
            text = path.read_text(errors="ignore")
            found = [part for part in suspicious if f'"{part}' in text or f" {part}" in text]
            assert not found, f"{path.relative_to(ROOT)} holds {found}"
