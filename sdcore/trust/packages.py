"""The installed packages that sdcore takes code from: itself, and whoever has entry points in a group of its."""

from __future__ import annotations

import importlib.metadata
import json
import re
from dataclasses import dataclass
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
    """All of them, by name. A distribution that is listed twice counts once: the first is what Python imports."""
    found: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        name = _normalised(distribution)
        if name and name not in found:
            entries = _entries(distribution)
            if entries or name == CORE:
                origin, editable = _origin(distribution)
                version = distribution.metadata["Version"] or "?"
                found[name] = Package(name, version, origin, editable, entries, distribution)
    return [found[name] for name in sorted(found)]


def _normalised(distribution: importlib.metadata.Distribution) -> str:
    try:
        name = distribution.metadata["Name"]
    except Exception:  # noqa: BLE001 - a damaged installation must not hide the others
        return ""
    return re.sub(r"[-_.]+", "-", name).lower() if name else ""


def _entries(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    return {
        f"{entry.group}:{entry.name}": entry.value
        for entry in sorted(distribution.entry_points, key=lambda entry: (entry.group, entry.name))
        if entry.group.startswith(f"{CORE}.")
    }


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
