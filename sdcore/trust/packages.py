"""The installed packages that sdcore takes code from: itself, and whoever has entry points in a group of its."""

from __future__ import annotations

import importlib.metadata
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

CORE = "sdcore"


@dataclass(frozen=True)
class Package:
    """An installed package; nothing of it has been imported.

    Attributes:
        name: of the distribution, normalised.
        version: its version.
        origin: where it was installed from, for people.
        editable: whether its code is run from a folder that may be edited.
        entry_points: ``"group:name"`` to ``"module:object"``, of the groups of sdcore.
        distribution: the metadata that this was read from.
    """

    name: str
    version: str
    origin: str
    editable: bool
    entry_points: dict[str, str]
    distribution: importlib.metadata.Distribution

    @property
    def modules(self) -> tuple[str, ...]:
        """The top-level modules that entry points import."""
        found = [CORE] if self.name == CORE else []
        found += [value.partition(":")[0].partition(".")[0].strip() for value in self.entry_points.values()]
        return tuple(dict.fromkeys(found))

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of its plugins."""
        group = f"{CORE}.plugins:"
        return tuple(key.removeprefix(group) for key in self.entry_points if key.startswith(group))


def packages() -> list[Package]:
    """All of them, by name. They are those whose entry points discovery would find, even without a name of their own.

    A second distribution of the same name is told apart by a number: ``"sdcore-lora#2"``.
    """
    found: dict[str, tuple[importlib.metadata.Distribution, dict[str, str]]] = {}
    groups: set[str] = set()
    for distribution in importlib.metadata.distributions():
        groups.update(entry.group for entry in distribution.entry_points if entry.group.startswith(f"{CORE}."))
        if _name_of(distribution) == CORE and not found:
            found[_place(distribution)] = (distribution, {})
    for group in sorted(groups):
        for entry in importlib.metadata.entry_points(group=group):
            if entry.dist is not None:
                entries = found.setdefault(_place(entry.dist), (entry.dist, {}))[1]
                entries[f"{group}:{entry.name}"] = entry.value
    named: dict[str, Package] = {}
    for distribution, provided in found.values():
        name = base = _name_of(distribution)
        number = 1
        while name in named:
            number += 1
            name = f"{base}#{number}"
        origin, editable = _origin(distribution)
        version = distribution.metadata["Version"] or "?"
        named[name] = Package(name, version, origin, editable, dict(sorted(provided.items())), distribution)
    return [named[name] for name in sorted(named)]


def _name_of(distribution: importlib.metadata.Distribution) -> str:
    """Its normalised name (PEP 503); where the metadata has none, that of the folder of the metadata."""
    try:
        name = distribution.metadata["Name"]
    except Exception:  # noqa: BLE001 - a damaged installation must not hide itself or others
        name = None
    return re.sub(r"[-_.]+", "-", name or Path(_place(distribution)).name).lower()


def _place(distribution: importlib.metadata.Distribution) -> str:
    """Where its metadata is: what tells distributions apart that say the same of themselves."""
    return str(getattr(distribution, "_path", None) or id(distribution))


def _origin(distribution: importlib.metadata.Distribution) -> tuple[str, bool]:
    """Where it was installed from: ``direct_url.json`` (PEP 610) says it for all but an index."""
    try:
        direct: Any = json.loads(distribution.read_text("direct_url.json") or "null")
    except ValueError:
        direct = None
    if not isinstance(direct, dict) or not isinstance(direct.get("url"), str):
        installer = (distribution.read_text("INSTALLER") or "").strip()
        return (f"index ({installer})" if installer else "unknown"), False
    url = _shown(direct["url"])
    if isinstance(direct.get("vcs_info"), dict):
        info = direct["vcs_info"]
        return f"{info.get('vcs', 'vcs')} {url}@{str(info.get('commit_id', '?'))[:12]}", False
    if isinstance(direct.get("dir_info"), dict):
        editable = direct["dir_info"].get("editable") is True
        return f"{'editable' if editable else 'folder'} {url}", editable
    return f"file {url}", False


def _shown(url: str) -> str:
    """A URL without a name and password in it; a path for a file."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        from urllib.request import url2pathname

        return url2pathname(parts.path)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
