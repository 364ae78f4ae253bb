from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CODE = """
import sys
sys.modules[{marker!r}] = sys
from sdcore import Access, Plugin, hookimpl, ports

class ThePlugin(Plugin):
    name = {name!r}
    {access}

    @hookimpl
    def decode(self, run):
        return ports.image(lambda picture, image: None)
"""
Install = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of distributions, the only ones that there are: sdcore itself, and what `install` writes."""
    site = tmp_path / "site"
    site.mkdir()
    only = functools.partial(importlib.metadata.distributions, path=[str(site)])
    monkeypatch.setattr(importlib.metadata, "distributions", only)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("SDCORE_DISABLE", raising=False)
    _info(site, "sdcore", "0.1.0", {})
    yield site
    for name in list(sys.modules):
        if name.startswith(("locked_", "imported_")):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Write a distribution with a plugin in a package of two files; returns the package's folder."""

    def write(
        name: str,
        *,
        version: str = "1.0",
        access: str = "",
        record: bool = True,
        direct: object = None,
        folder: Path | None = None,
        group: str = "sdcore.plugins",
    ) -> Path:
        module = f"locked_{name}"
        package = (folder or site) / module
        package.mkdir(parents=True)
        code = CODE.format(name=name, marker=f"imported_{name}", access=access)
        (package / "__init__.py").write_text("from .plugin import ThePlugin\n")
        (package / "plugin.py").write_text(code)
        files = {"entry_points.txt": f"[{group}]\n{name} = {module}:ThePlugin\n", "INSTALLER": "pip\n"}
        if direct is not None:
            files["direct_url.json"] = json.dumps(direct)
        info = _info(site, f"sdcore-{name}", version, files)
        if record:
            own = [] if folder else sorted(package.iterdir())
            lines = [_line(site, path) for path in [*own, *sorted(info.iterdir())]]
            lines += [f"{info.name}/RECORD,,", f"{module}/__pycache__/plugin.cpython-311.pyc,,", "../../bin/tool,,"]
            (info / "RECORD").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()
        return package

    return write


def _info(site: Path, name: str, version: str, files: dict[str, str]) -> Path:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (info / file).write_text(text)
    return info


def _line(site: Path, path: Path) -> str:
    data = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path.relative_to(site).as_posix()},sha256={digest},{len(data)}"
