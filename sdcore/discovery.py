"""Discovery: which plugins are installed, and why some cannot be used. Never raises for a plugin's fault."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from .plugin import HOOKS, PROJECT, Options, Plugin, nearest

GROUP = "sdcore.plugins"
DISABLE = "SDCORE_DISABLE"


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
        """Distribution and version, as errors name it."""
        return f"{self.distribution} {self.version}"

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


def discover(only: Iterable[str] | None = None) -> list[PluginRecord]:
    """All plugins of the entry-point group ``sdcore.plugins``, sorted by name.

    Args:
        only: load no others than these names; the others are not imported and not returned.
    """
    wanted = None if only is None else frozenset(only)
    blocked = disabled_names()
    found: dict[str, list[PluginRecord]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if wanted is not None and entry.name not in wanted:
            continue
        distribution = entry.dist
        record = PluginRecord(
            entry.name,
            distribution.name if distribution else "(unknown)",
            distribution.version if distribution else "?",
            entry.value,
        )
        if entry.name in blocked or "*" in blocked:
            record = replace(record, disabled=True, error=f"disabled by {DISABLE}")
        else:
            record = _load(record, entry, distribution)
        found.setdefault(entry.name, []).append(record)
    return [_single(records) for _, records in sorted(found.items())]


def _single(records: list[PluginRecord]) -> PluginRecord:
    # An editable install can list one distribution twice; that is not a conflict.
    distinct = {record.distribution: record for record in records}
    if len(distinct) == 1:
        return records[0]
    owners = " and ".join(sorted(record.label for record in distinct.values()))
    return replace(
        records[0], factory=None, error=f"two packages provide a plugin of this name: {owners}; uninstall one"
    )


def _load(record: PluginRecord, entry: Any, distribution: Any) -> PluginRecord:
    too_old = _version_gate(distribution)
    if too_old:
        return replace(record, error=too_old)
    try:
        loaded = entry.load()
    except Exception as error:  # noqa: BLE001 - a broken plugin must not stop the others
        return replace(record, error=f"its import failed: {type(error).__name__}: {error}")
    problem = check_class(loaded, record.name)
    return replace(record, error=problem) if problem else replace(record, factory=loaded)


def _version_gate(distribution: Any) -> str | None:
    """The plugin's own ``Requires-Dist: sdcore...`` against the running version."""
    version = sdcore_version()
    for text in (distribution.requires if distribution else None) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() != PROJECT or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            return f"it needs sdcore{requirement.specifier}, but sdcore {version} is running; upgrade one of them"
    return None


def hook_methods(factory: type[Plugin]) -> dict[str, Any]:
    """Hook-named methods that a plugin class defines itself or inherits from another plugin class."""
    return {
        name: getattr(factory, name) for name in HOOKS if getattr(factory, name) is not getattr(Plugin, name)
    }


def check_class(loaded: Any, name: str) -> str | None:
    """What is wrong with a would-be plugin class, or None."""
    if not inspect.isclass(loaded):
        return f"its entry point gives {loaded!r}; it must name the Plugin subclass itself, not an instance"
    if not issubclass(loaded, Plugin):
        return f"{loaded.__qualname__} is not a subclass of sdcore.Plugin"
    if loaded.name != name:
        return f"{loaded.__qualname__}.name is {loaded.name!r}, but its entry point is {name!r}; they must be equal"
    if loaded.options is not None and not (inspect.isclass(loaded.options) and issubclass(loaded.options, Options)):
        return f"{loaded.__qualname__}.options must be a subclass of sdcore.Options, or None"
    if loaded.__hash__ is not object.__hash__:
        return f"{loaded.__qualname__} must hash by identity: do not make it a dataclass or a pydantic model"
    for hook, method in hook_methods(loaded).items():
        if not hasattr(method, f"{PROJECT}_impl"):
            return f"{loaded.__qualname__}.{hook} has a hook's name but is not marked with @hookimpl"
        if inspect.iscoroutinefunction(method):
            return f"{loaded.__qualname__}.{hook} is async; hooks are plain functions"
        expected, given = _parameters(getattr(Plugin, hook)), _parameters(method)
        if given != expected:
            return f"{loaded.__qualname__}.{hook} takes ({', '.join(given)}); it must take ({', '.join(expected)})"
    for attribute, value in inspect.getmembers(loaded):
        if hasattr(value, f"{PROJECT}_impl") and attribute not in HOOKS:
            return f"{loaded.__qualname__}.{attribute} is marked with @hookimpl, but there is no such hook.{nearest(attribute, HOOKS)}"
    return None


def _parameters(method: Any) -> list[str]:
    return list(inspect.signature(method).parameters)
