"""Lock: the set of packages that was reviewed, by hash, and what differs from it here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcore.errors import PluginLoadError

from .fingerprint import fingerprint
from .packages import CORE, packages

FORMAT = "sdcore-lock"
VERSION = 1
NAME = "sdcore.lock"


@dataclass(frozen=True)
class Locked:
    """One package of a lock."""

    version: str
    sha256: str
    kind: str
    entry_points: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """Packages by name: sdcore, and every package that it takes plugins, models or other things from."""

    packages: Mapping[str, Locked]

    def to_json(self) -> str:
        """The lock as text, one package after the other, in the order of their names."""
        found = {
            name: {"version": p.version, "sha256": p.sha256, "kind": p.kind, "provides": list(p.entry_points)}
            for name, p in sorted(self.packages.items())
        }
        return json.dumps({"format": FORMAT, "version": VERSION, "packages": found}, indent=2) + "\n"


def make_lock() -> Lock:
    """Lock what is installed. Nothing of it is imported.

    Raises:
        PluginLoadError: a package is not what was installed, so that locking it would hide a change.
    """
    found, problems = _look()
    if problems:
        told = [text for texts in problems.values() for text in texts]
        raise PluginLoadError(f"nothing was locked: {_several(told)}")
    if CORE not in found:
        raise PluginLoadError("nothing was locked: sdcore itself is run without being installed; pip install it first")
    return Lock(found)


def read_lock(file: str | os.PathLike[str]) -> Lock:
    """Read a lock.

    Raises:
        PluginLoadError: the file cannot be read, or is no lock.
    """
    path = os.fspath(file)
    try:
        data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["format"] != FORMAT or data["version"] != VERSION:
            raise ValueError(f"format {data['format']!r}, version {data['version']!r}")
        found = {name: _locked(value) for name, value in data["packages"].items()}
    except OSError as error:
        raise PluginLoadError(
            f"the lock {path} cannot be read: {error.strerror or error}; make one with: sdcore plugins lock"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PluginLoadError(
            f"{path} is no lock of sdcore ({type(error).__name__}: {error}); make one with: sdcore plugins lock"
        ) from None
    if CORE not in found:
        raise PluginLoadError(f"{path} does not lock sdcore itself; make one with: sdcore plugins lock")
    return Lock(found)


def differences(lock: Lock) -> list[str]:
    """What differs here from a lock, a sentence each with what to do; empty if nothing does. Imports nothing."""
    here, problems = _look()
    told: list[str] = []
    for name in sorted(lock.packages.keys() | here.keys()):
        told += problems.get(name, [])
        compared = _compared(name, lock.packages.get(name), here.get(name))
        # A hash that differs says no more than what was found to be changed.
        told += [text for text in compared if name not in problems or name not in lock.packages]
    return told


def check_lock(file: str | os.PathLike[str]) -> None:
    """Refuse to go on unless exactly what was locked is installed. Call it before anything is imported.

    Raises:
        PluginLoadError: the set differs; every package that does is named. Or the lock cannot be read.
    """
    told = differences(read_lock(file))
    if told:
        raise PluginLoadError(f"what is installed is not what {os.fspath(file)} locks: {_several(told)}")


def _look() -> tuple[dict[str, Locked], dict[str, list[str]]]:
    """What is here, and what is wrong with it, by package."""
    found: dict[str, Locked] = {}
    problems: dict[str, list[str]] = {}
    for package in packages():
        seen = fingerprint(package)
        found[package.name] = Locked(package.version, seen.sha256, seen.kind, tuple(package.entry_points))
        if seen.problems:
            label = f"{package.name} {package.version}"
            problems[package.name] = [f"{label}: {problem}; reinstall it" for problem in seen.problems]
    return found, problems


def _compared(name: str, locked: Locked | None, here: Locked | None) -> Iterator[str]:
    if here is None and locked is not None:
        yield f"{name} {locked.version} is locked and not installed: install {name}=={locked.version}"
    elif locked is None and here is not None:
        yield f"{name} {here.version} is installed and not locked: uninstall it, or review it and lock again"
    elif locked is not None and here is not None and locked.version != here.version:
        yield f"{name} is {here.version}, locked is {locked.version}: install {name}=={locked.version}"
    elif locked is not None and here is not None and locked.sha256 != here.sha256:
        how = "" if locked.kind == here.kind else f" ({locked.kind} when it was locked, {here.kind} now)"
        yield f"{name} {here.version} was changed{how}: reinstall it, or review the change and lock again"


def _locked(value: Any) -> Locked:
    version, digest, kind = value["version"], value["sha256"], value["kind"]
    if not all(isinstance(item, str) for item in (version, digest, kind)) or len(digest) != 64:
        raise ValueError("a package without version, sha256 and kind")
    return Locked(version, digest, kind, tuple(str(item) for item in value["provides"]))


def _several(told: list[str]) -> str:
    return told[0] if len(told) == 1 else "".join(f"\n  {one}" for one in told)
