"""Which ports a plugin may add to, read from its source: nothing is run, so that it can be said before any run."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

from sdcore.discovery import GIVEN, PluginRecord
from sdcore.ports import PORTS

_NAMED = re.compile(r"\bports\.([a-z_]+)")


def claimed_ports(record: PluginRecord) -> tuple[str, ...]:
    """The ports of a plugin's hooks that the source of its package names, such as ``decode.image``.

    A package with several plugins says the same of all whose hooks agree; a run's own are in ``engine.explain``.
    """
    if record.factory is None:
        return ()
    named = {name for path in _sources(record) for name in _NAMED.findall(path.read_text(encoding="utf-8"))}
    return tuple(str(port) for port in PORTS if port.name in named and port.hook in record.hooks)


def _sources(record: PluginRecord) -> list[Path]:
    factory: Any = record.factory
    spec = importlib.util.find_spec(factory.__module__.partition(".")[0]) if record.distribution != GIVEN else None
    if spec is None or not spec.submodule_search_locations:
        file = inspect.getsourcefile(factory)
        return [Path(file)] if file else []
    return [path for root in spec.submodule_search_locations for path in sorted(Path(root).rglob("*.py"))]
