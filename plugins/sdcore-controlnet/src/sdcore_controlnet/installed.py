"""Control nets that are installed as packages, found by name through the entry-point group "sdcore.controlnets".

An entry point names a function without arguments that returns the path of a net's folder: as "sdcore.models" does
for whole models.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from sdcore import ModelError
from sdcore.models import find_source
from sdcore.plugin import nearest

GROUP = "sdcore.controlnets"


def installed_nets() -> dict[str, list[metadata.EntryPoint]]:
    """The entry points of all installed nets by name; a name that two packages bring has two."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        found.setdefault(entry.name, []).append(entry)
    return found


def find_net(source: str, what: str = "ControlNet or T2I-Adapter") -> Path:
    """The folder or weight file that a user named: an installed net, a path, or a hub id.

    A bare name is looked for among the installed nets first; "./name" is always a path.

    Args:
        source: as the user wrote it.
        what: how messages name it.

    Raises:
        ModelError: there is no such thing, an installed net is broken, or two packages bring one of this name.
    """
    if os.sep in source or "/" in source:
        return find_source(source, what)
    known = installed_nets()
    if source in known:
        return _folder(source, known[source])
    if Path(source).exists():
        return find_source(source, what)
    hint = f"; nor is a net of this name installed.{nearest(source, known)}" if known else "; check the path"
    raise ModelError(f"{source}: there is no such folder or file ({what}){hint}")


def _folder(name: str, entries: list[metadata.EntryPoint]) -> Path:
    owners = [f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package" for entry in entries]
    if len(entries) > 1:
        raise ModelError(f"{len(entries)} packages bring a net called {name!r}: {', '.join(owners)}; uninstall one")
    try:
        path = Path(entries[0].load()())
    except Exception as error:
        raise ModelError(
            f"the installed net {name!r} ({owners[0]}) is broken: {type(error).__name__}: {error}. Reinstall it, or "
            "name another"
        ) from error
    if not (path / "config.json").is_file():
        raise ModelError(f"the installed net {name!r} ({owners[0]}) has no weights: {path} has no config.json")
    return path
