"""From a name, a file or a class to what is checked: the plugin, and what its author says of it."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sdcore.discovery import GIVEN, GROUP, PluginRecord, discover
from sdcore.errors import PluginLoadError
from sdcore.plugin import Plugin, nearest
from sdcore.plugin_class import check_class

from .base import PluginConformance
from .subject import Subject

MODULE = "conformance"
"""The module of a plugin's package that holds subclasses of PluginConformance."""
OTHERS = ("sdcore.models", "sdcore.controlnets")
"""Groups of entry points that name a folder, not a plugin: of these, packages are checked for what a package owes."""


@functools.cache
def subject_of(spec: type[PluginConformance], tier: str = "cpu") -> Subject:
    """What a subclass of PluginConformance is about, one for a process.

    Raises:
        PluginLoadError: nothing of this name is installed, or it names nothing.
    """
    wanted: Any = spec.plugin
    if not wanted:
        raise PluginLoadError(f"{spec.__qualname__}.plugin is empty; give the plugin's name, or its class")
    if isinstance(wanted, str):
        found, factory = installed(wanted)
        return Subject(spec(), found, tier, factory)
    return Subject(spec(), given(wanted), tier, wanted)


def find(name: str, tier: str = "cpu", use: Sequence[Mapping[str, Any]] = (), model: str | None = None) -> Subject:
    """What is installed under a name.

    Args:
        name: of a plugin, or of a model or ControlNet in a package.
        tier: "cpu", "gpu" or "weights".
        use: options to check it with instead of those that its package has.
        model: for the tier "weights": the model instead of the installed one.

    Raises:
        PluginLoadError: nothing of this name is installed.
    """
    found, factory = installed(name)
    spec = _with(spec_for(name, factory, found), use)
    return Subject(spec(), found, tier, factory, model)


def from_file(
    file: str, tier: str = "cpu", uses: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({})
) -> list[Subject]:
    """The plugins that a Python file defines.

    Args:
        file: the file; it may hold subclasses of PluginConformance beside them.
        tier: "cpu", "gpu" or "weights".
        uses: options to check them with, by plugin, instead of those.

    Raises:
        PluginLoadError: there is no such file, it raises, or it defines no plugin.
    """
    from sdcore.cli.plugin_file import read_plugins

    made = []
    for factory in read_plugins(file):
        record = given(factory)
        spec = _with(spec_for(record.name, factory, record), uses.get(record.name, ()))
        made.append(Subject(spec(), record, tier, factory))
    return made


def names() -> list[str]:
    """Everything that is installed and can be checked."""
    return sorted({entry.name for group in (GROUP, *OTHERS) for entry in importlib.metadata.entry_points(group=group)})


def installed(name: str) -> tuple[PluginRecord, type[Plugin] | None]:
    """The record of what is installed, and the class, also if it is no proper plugin."""
    records = discover([name])
    if records:
        return records[0], records[0].factory or _class(name)
    for group in OTHERS:
        for entry in importlib.metadata.entry_points(group=group, name=name):
            assert entry.dist is not None
            record = PluginRecord(name, entry.dist.name, entry.dist.version, entry.value)
            return (replace(record, error=problem) if (problem := _folder_problem(entry)) else record), None
    raise PluginLoadError(f"no plugin {name!r} is installed.{nearest(name, names())}")


def _folder_problem(entry: importlib.metadata.EntryPoint) -> str | None:
    try:
        folder = entry.load()()
        return None if folder.is_dir() else f"its entry point names {folder}, which is no folder"
    except Exception as error:  # noqa: BLE001 - told as what is wrong with it
        return f"its entry point failed: {type(error).__name__}: {error}"


def _class(name: str) -> type[Plugin] | None:
    """The class of a plugin that cannot be used, if it is one."""
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        except Exception:  # noqa: BLE001 - the record tells of it
            return None
        return found if inspect.isclass(found) and issubclass(found, Plugin) else None
    return None


def given(factory: type[Plugin]) -> PluginRecord:
    """The record of a class that is in no package."""
    name = factory.name or factory.__qualname__.lower()
    problem = check_class(factory, name)
    where = f"{factory.__module__}:{factory.__qualname__}"
    return PluginRecord(name, GIVEN, "-", where, None if problem else factory, problem)


def spec_for(name: str, factory: type[Plugin] | None, found: PluginRecord) -> type[PluginConformance]:
    """What the author says of a plugin, beside its class or in the module ``conformance`` of its package."""
    module = factory.__module__ if factory is not None else found.origin.partition(":")[0]
    package = module.partition(".")[0]
    for place in dict.fromkeys((module, f"{package}.{MODULE}")):
        for value in list(vars(_module(place)).values()) if _module(place) else ():
            if _speaks_of(value, name, factory):
                spec: type[PluginConformance] = value
                return _about(spec, found, factory)
    return _about(PluginConformance, found, factory)


def _module(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    try:
        known = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return None
    return importlib.import_module(name) if known else None


def _speaks_of(value: Any, name: str, factory: type[Plugin] | None) -> bool:
    if not (inspect.isclass(value) and issubclass(value, PluginConformance)):
        return False
    return value.plugin == name or (factory is not None and value.plugin is factory)


def _about(spec: type[PluginConformance], found: PluginRecord, factory: type[Plugin] | None) -> type[PluginConformance]:
    wanted: Any = factory if found.distribution == GIVEN else found.name
    return spec if spec.plugin == wanted else type(spec.__name__, (spec,), {"plugin": wanted})


def _with(spec: type[PluginConformance], use: Iterable[Mapping[str, Any]]) -> type[PluginConformance]:
    chosen = tuple(use)
    if not chosen:
        return spec
    body = {"options": chosen, "cases": PluginConformance.cases}
    return type(spec.__name__, (spec,), body)
