"""Discovery: which plugins are installed, and why some cannot be used. Never raises for a plugin's fault."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from .errors import PluginLoadError
from .plugin import HOOKS, PROJECT, Plugin
from .plugin_class import check_class, hook_methods

GROUP = "sdcore.plugins"
DISABLE = "SDCORE_DISABLE"
GIVEN = "(given)"
INSTALLED = "installed"
"""In ``plugins=[...]``: everything that is installed."""

NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class PluginRecord:
    """An installed plugin, usable or not.

    Attributes:
        name: entry-point name.
        distribution: name of the pip package, or ``"(given)"`` for a class handed to the engine.
        version: its version.
        origin: ``module:Class``.
        factory: the plugin class; None if it cannot be used.
        error: why not, or None.
        disabled: True if SDCORE_DISABLE names it; it was not imported.
    """

    name: str
    distribution: str
    version: str
    origin: str
    factory: type[Plugin] | None = None
    error: str | None = None
    disabled: bool = False

    @property
    def label(self) -> str:
        """Distribution and version, as errors name it; the class, if that was given to the engine."""
        return f"class {self.origin}" if self.distribution == GIVEN else f"{self.distribution} {self.version}"

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of the hooks that it implements."""
        return () if self.factory is None else tuple(n for n in HOOKS if n in hook_methods(self.factory))


def sdcore_version() -> str:
    """The installed version of sdcore."""
    try:
        return importlib.metadata.version("sdcore")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def disabled_names() -> frozenset[str]:
    """Names in SDCORE_DISABLE (comma separated; ``*`` disables all)."""
    return frozenset(name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip())


def discover(only: Iterable[str] | None = None, refused: Mapping[str, str] = NOBODY) -> list[PluginRecord]:
    """All plugins of the entry-point group ``sdcore.plugins``, sorted by name.

    Args:
        only: load no others than these names; the others are not imported and not returned.
        refused: why plugins of these distributions must not be imported; they are listed as broken.
    """
    wanted = None if only is None else frozenset(only)
    blocked = disabled_names()
    found: dict[str, list[tuple[PluginRecord, Any]]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if wanted is None or entry.name in wanted:
            found.setdefault(entry.name, []).append((_record(entry), entry))
    records = []
    for name, entries in sorted(found.items()):
        # An editable install can list one distribution twice; that is not a conflict.
        distinct = {record.distribution: record for record, _ in entries}
        record, entry = entries[0]
        if name in blocked or "*" in blocked:
            record = replace(record, disabled=True, error=f"disabled by {DISABLE}")
        elif len(distinct) > 1:
            owners = " and ".join(sorted(other.label for other in distinct.values()))
            record = replace(record, error=f"two packages provide a plugin of this name: {owners}; uninstall one")
        elif record.distribution in refused:
            record = replace(record, error=refused[record.distribution])
        else:
            record = _load(record, entry)
        records.append(record)
    return records


def _record(entry: Any) -> PluginRecord:
    try:
        name, version = entry.dist.name, entry.dist.version
    except Exception:  # noqa: BLE001 - a damaged installation must not stop the others
        name, version = None, None
    return PluginRecord(entry.name, name or "(unknown)", version or "?", entry.value)


def _load(record: PluginRecord, entry: Any) -> PluginRecord:
    too_old = _version_gate(entry.dist)
    if too_old:
        return replace(record, error=too_old)
    try:
        loaded = entry.load()
        problem = check_class(loaded, record.name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken plugin must not stop the others
        return replace(record, error=f"its import failed: {type(error).__name__}: {error}")
    return replace(record, error=problem) if problem else replace(record, factory=loaded)


def _version_gate(distribution: Any) -> str | None:
    """The plugin's own ``Requires-Dist: sdcore...`` against the running version."""
    version = sdcore_version()
    for text in (distribution.requires if distribution else None) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() != PROJECT or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            return f"it needs sdcore{requirement.specifier}, but sdcore {version} is running; upgrade one of them"
    return None


def select(plugins: Iterable[str | type[Plugin]] | None, refused: Mapping[str, str] = NOBODY) -> list[PluginRecord]:
    """The plugins of an engine, by name.

    Args:
        plugins: None for everything installed; or names of installed plugins, Plugin subclasses, and
            ``"installed"`` for everything installed.
        refused: as of :func:`discover`.

    Raises:
        PluginLoadError: a plugin that was named is missing or disabled, or a class is not a plugin.
    """
    if plugins is None:
        return discover(None, refused)
    plugins = list(plugins)
    names = [item for item in plugins if isinstance(item, str)]
    records = discover(None if INSTALLED in names else names, refused)
    known = {record.name: record for record in records}
    for name in names:
        if name == INSTALLED:
            continue
        if name not in known:
            raise PluginLoadError(f"plugin {name!r} cannot be loaded: it is not installed; pip install sdcore-{name}")
        if known[name].disabled:
            raise PluginLoadError(f"plugin {name!r} cannot be loaded: {known[name].error}")
    given: dict[str, PluginRecord] = {}
    for item in plugins:
        if isinstance(item, str):
            continue
        record = _given(item)
        if record.name in given and given[record.name].factory is not item:
            raise PluginLoadError(
                f"two classes with the name {record.name!r} were given: {given[record.name].origin} and {record.origin}"
            )
        given[record.name] = record
    return sorted({**known, **given}.values(), key=lambda record: record.name)


def _given(item: Any) -> PluginRecord:
    if isinstance(item, Plugin):
        raise PluginLoadError(f"{item!r} is an instance; give the class, each engine makes its own instance")
    if not inspect.isclass(item):
        raise PluginLoadError(f"plugins must be names or Plugin subclasses, got {item!r}")
    name = getattr(item, "name", "")
    if not name and issubclass(item, Plugin):
        raise PluginLoadError(f"{item.__qualname__}.name is empty; give the plugin a name")
    problem = check_class(item, name)
    if problem:
        raise PluginLoadError(problem)
    factory: Any = item
    return PluginRecord(name, GIVEN, "-", f"{item.__module__}:{item.__qualname__}", factory)
