"""PluginHost: one engine's plugins, each hook as a typed call, each error with a name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from .discovery import PluginRecord, check_class, discover
from .errors import PluginError, PluginLoadError, SdcoreError
from .planning import Change, Problem
from .plugin import PROJECT, Options, Plugin, nearest
from .ports import Contribution
from .registry import Registry

if TYPE_CHECKING:
    from .events import Event
    from .run import Run

INSTALLED = "installed"
"""In ``plugins=[...]``: everything that is installed."""


class PluginHost:
    """The plugins of one engine. Two hosts share nothing; a host does not change once it is made.

    Args:
        plugins: None for everything installed; or names of installed plugins, Plugin subclasses, and
            ``"installed"`` for everything installed.
        before: fills the registry with what the core brings, before any plugin does.

    Raises:
        PluginLoadError: a plugin that was named is missing or broken, or a class is not a plugin.
    """

    def __init__(
        self, plugins: Iterable[str | type[Plugin]] | None = None, before: Callable[[Registry], None] | None = None
    ) -> None:
        self.registry = Registry()
        if before is not None:
            before(self.registry)
        self.records: dict[str, PluginRecord] = {}
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Plugin)
        for record in _records(plugins):
            self.records[record.name] = record if record.error else self._start(record)
        self.registry._freeze()

    def _start(self, record: PluginRecord) -> PluginRecord:
        assert record.factory is not None
        try:
            plugin = record.factory()
            self._manager.register(plugin, record.name)
            self._manager.subset_hook_caller("register", self._others(record.name))(
                registry=self.registry._as(record.name)
            )
        except Exception as error:  # noqa: BLE001 - a broken plugin must not stop the others
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            self.registry._drop(record.name)
            from dataclasses import replace

            return replace(record, factory=None, error=f"it failed to start: {type(error).__name__}: {error}")
        return record

    # -- looking things up ------------------------------------------------------------------------------

    def plugin(self, name: str) -> Plugin:
        """The instance of a usable plugin.

        Raises:
            PluginLoadError: it is not installed, broken, or disabled; says which and what to do.
        """
        record = self.records.get(name)
        if record is None:
            raise PluginLoadError(
                f"there is no plugin {name!r}.{nearest(name, self.records)} "
                f"If it is not installed: pip install sdcore-{name}"
            )
        if record.error:
            remedy = "" if record.disabled else f"; reinstall or uninstall {record.distribution}"
            raise PluginLoadError(f"plugin {name!r} ({record.label}) cannot be used: {record.error}{remedy}")
        plugin = self._manager.get_plugin(name)
        assert isinstance(plugin, Plugin)
        return plugin

    def owner(self, options: Options) -> str:
        """Name of the plugin whose options these are."""
        for name, record in self.records.items():
            if record.factory is not None and record.factory.options is type(options):
                return name
        module = type(options).__module__.partition(".")[0]
        for name, record in self.records.items():
            if record.error and record.origin.partition(":")[0].partition(".")[0] == module:
                self.plugin(name)  # raises with the reason
        raise PluginLoadError(
            f"no plugin of this engine has options of type {type(options).__qualname__}; give the plugin class to "
            f"the engine, Engine.load(plugins=['{INSTALLED}', {type(options).__qualname__}Plugin]), "
            "or install the package that it is in"
        )

    def label(self, name: str) -> str:
        """Distribution and version of a plugin."""
        return self.records[name].label

    # -- calling hooks ----------------------------------------------------------------------------------

    def plan(self, run: Run, names: Sequence[str]) -> Iterator[tuple[str, Problem | Change]]:
        """Call ``plan`` on the named plugins, in order."""
        for name in names:
            for found in self._call("plan", name, run=run):
                for item in found:
                    if not isinstance(item, Problem | Change):
                        raise self._wrong(name, "plan", item, "Problem or Change")
                    yield name, item

    def contributions(self, hook: str, run: Run, names: Sequence[str]) -> Iterator[tuple[str, str, Contribution]]:
        """Call a hook that contributes stages on the named plugins; yields (plugin, version, stage)."""
        for name in names:
            for found in self._call(hook, name, run=run):
                items = (found,) if isinstance(found, Contribution) else found
                if not isinstance(items, Iterable):
                    raise self._wrong(name, hook, found, "contributions made by calling a port, or None")
                for item in items:
                    if not isinstance(item, Contribution):
                        raise self._wrong(name, hook, item, "contributions made by calling a port, or None")
                    if item.port.hook != hook:
                        raise PluginError(
                            name, self.label(name), hook, f"port {item.port} belongs to the hook {item.port.hook!r}"
                        )
                    yield name, self.label(name), item

    def observe(self, event: Event, names: Sequence[str]) -> None:
        """Show an event to the named plugins."""
        for name in names:
            self._call("observe", name, event=event)

    def _call(self, hook: str, name: str, **kwargs: Any) -> list[Any]:
        self.plugin(name)
        try:
            # One plugin at a time: pluggy's results do not say who gave them.
            caller = self._manager.subset_hook_caller(hook, self._others(name))
            results = caller(**kwargs)
            # A generator runs its body only now: its errors are the plugin's too.
            return [list(r) if inspect.isgenerator(r) else r for r in results]
        except SdcoreError:
            raise
        except Exception as error:
            raise PluginError(name, self.label(name), hook, f"{type(error).__name__}: {error}") from error

    def _others(self, name: str) -> list[Any]:
        return [plugin for other, plugin in self._manager.list_name_plugin() if other != name]

    def _wrong(self, name: str, hook: str, item: Any, expected: str) -> PluginError:
        return PluginError(name, self.label(name), hook, f"it returned {type(item).__name__}, expected {expected}")


def _records(plugins: Iterable[str | type[Plugin]] | None) -> list[PluginRecord]:
    if plugins is None:
        records = discover()
        for record in records:
            if record.error and not record.disabled:
                warnings.warn(
                    f"plugin {record.name!r} ({record.label}) is installed but cannot be used: {record.error}",
                    RuntimeWarning,
                    stacklevel=5,
                )
        return records
    plugins = list(plugins)
    names = [item for item in plugins if isinstance(item, str)]
    records = discover(None if INSTALLED in names else names)
    known = {record.name: record for record in records}
    for name in names:
        if name != INSTALLED and (name not in known or known[name].error):
            reason = known[name].error if name in known else f"it is not installed; pip install sdcore-{name}"
            raise PluginLoadError(f"plugin {name!r} cannot be loaded: {reason}")
    for item in plugins:
        if not isinstance(item, str):
            given = _given(item)
            known[given.name] = given
    return sorted(known.values(), key=lambda record: record.name)


def _given(item: type[Plugin]) -> PluginRecord:
    if isinstance(item, Plugin):
        raise PluginLoadError(f"{item!r} is an instance; give the class, each engine makes its own instance")
    problem = check_class(item, getattr(item, "name", ""))
    if problem:
        raise PluginLoadError(problem)
    if not item.name:
        raise PluginLoadError(f"{item.__qualname__}.name is empty; give the plugin a name")
    return PluginRecord(item.name, "(given)", "-", f"{item.__module__}:{item.__qualname__}", item)
