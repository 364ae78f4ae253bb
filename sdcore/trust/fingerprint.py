"""One hash for everything of a package that can run, and whether it is what was installed.

The hash is the SHA-256 over the lines ``SHA-256  path`` of its files, sorted. For an installed package these are the
files of its RECORD (PEP 376, 627) and whatever else lies in its modules' folders; for one that is run from a
folder (editable, or found there first), the files of its modules' folders. What differs from one machine to another
for the same wheel is left out: the RECORD itself, INSTALLER, REQUESTED, direct_url.json, scripts, compiled files.

Compiled files are compared with their source instead: Python runs them in its place.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcore.files import sha256_file

from .compiled import stale
from .packages import Package

_OF_THE_MACHINE = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_CACHE = "__pycache__"


@dataclass(frozen=True)
class Fingerprint:
    """What a package is.

    Attributes:
        sha256: of everything in it, in hex.
        kind: ``"installed"`` or ``"source"``, as the module describes.
        changed: what is not as it was installed, a phrase each.
        unclear: what cannot be told, a phrase each.
    """

    sha256: str
    kind: str
    changed: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that speaks against it; empty if all is well."""
        return self.changed + self.unclear


def fingerprint(package: Package) -> Fingerprint:
    """Hash a package, and verify it against its RECORD. Imports nothing of it."""
    unclear: list[str] = []
    changed: list[str] = []
    roots = dict(_roots(package, unclear))
    recorded = {} if package.editable else _recorded(package)
    here = {path for path, _ in recorded.values()}
    shadowed = [name for name, root in roots.items() if recorded and not _has(here, root)]
    if shadowed:
        where = roots[shadowed[0]].parent
        unclear.append(f"{shadowed[0]} is imported from {where} and not from where the package is installed")
    installed = bool(recorded) and not shadowed
    wanted = dict(recorded.values()) if installed else {}
    files = {path: label for label, (path, _) in recorded.items()} if installed else {}
    for root in roots.values():
        if installed and not _is_own(root):
            continue  # a namespace, in which others have files too
        for path in _walk(root, unclear):
            if path not in files:
                files[path] = _label(root, path)
                changed += [f"{files[path]} was not installed with it"] if installed else []
    lines = []
    for path, label in files.items():
        try:
            found = sha256_file(path)
        except OSError as error:
            changed.append(f"{label} cannot be read: {error.strerror or error}")
            continue
        if wanted.get(path) not in (None, found):
            changed.append(f"{label} is not what was installed")
        lines.append(f"{found}  {label}")
    changed += [f"the compiled form of {files[path]} is not what its source gives" for path in stale(files)]
    if not installed:  # which module is imported is not in these files
        lines += [f"{value}  {key}" for key, value in package.entry_points.items()]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return Fingerprint(digest, "installed" if installed else "source", tuple(changed), tuple(unclear))


def _roots(package: Package, unclear: list[str]) -> Iterator[tuple[str, Path]]:
    """The folder, or the file, of each top-level module, as an import would find it."""
    for name in package.modules:
        try:
            spec: Any = importlib.util.find_spec(name)
        except Exception:  # noqa: BLE001 - finders of other packages may do anything
            spec = None
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        if len(places) == 1:
            yield name, Path(os.path.realpath(places[0]))
        elif not places and getattr(spec, "has_location", False) and Path(str(spec.origin)).is_file():
            yield name, _place(str(spec.origin))
        else:
            where = f"it is in {len(places)} folders" if places else "there is no such module"
            unclear.append(f"module {name} cannot be hashed: {where}")


def _is_own(root: Path) -> bool:
    return root.is_file() or (root / "__init__.py").is_file()


def _has(here: Collection[Path], root: Path) -> bool:
    """Whether what an import finds is one of these files, or has one of them in it."""
    if root.is_file() or _is_own(root):
        return (root if root.is_file() else root / "__init__.py") in here
    return any(root in path.parents for path in here)


def _recorded(package: Package) -> Mapping[str, tuple[Path, str | None]]:
    """Path as in the RECORD to the file and its recorded hash in hex."""
    found: dict[str, tuple[Path, str | None]] = {}
    for entry in package.distribution.files or ():
        parts = entry.parts
        script = parts[0] == ".." and entry.parent.name in ("bin", "Scripts")
        of_machine = entry.parent.name.endswith(".dist-info") and entry.name in _OF_THE_MACHINE
        if script or of_machine or _CACHE in parts:
            continue
        digest = None
        if entry.hash is not None and entry.hash.mode == "sha256":
            value = entry.hash.value
            digest = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
        found[entry.as_posix()] = _place(str(entry.locate())), digest
    return found if package.distribution.read_text("RECORD") else {}


def _walk(root: Path, unclear: list[str]) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name != _CACHE)
        links = [Path(folder, name) for name in inner if os.path.islink(os.path.join(folder, name))]
        unclear += [f"{_label(root, link)} is a link to a folder, which is not hashed" for link in links]
        yield from (Path(folder, name) for name in sorted(names))


def _place(file: str) -> Path:
    """The one path of a file under its own name, which may be a link: an import goes by names."""
    folder, name = os.path.split(os.path.abspath(file))
    return Path(os.path.realpath(folder), name)


def _label(root: Path, path: Path) -> str:
    """A path as people and other machines know it, from the module's name on."""
    inside = path == root or root in path.parents
    return path.relative_to(root.parent).as_posix() if inside else path.name
