"""PluginHost: one engine's plugins, each hook as a typed call, each error with a name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pluggy

from .discovery import GIVEN, INSTALLED, NOBODY, PluginRecord, select
from .errors import PluginError, PluginLoadError, SdcoreError
from .planning import Change, Problem
from .plugin import PROJECT, Options, Plugin, nearest
from .ports import Contribution
from .registry import Registry

if TYPE_CHECKING:
    from .events import Event
    from .run import Run


class PluginHost:
    """The plugins of one engine. Two hosts share nothing; a host does not change once it is made.

    Args:
        plugins: None for everything installed; or names of installed plugins, Plugin subclasses, and
            ``"installed"`` for everything installed.
        before: fills the registry with what the core brings, before any plugin does.
        refused: why plugins of these distributions must not be imported.

    Raises:
        PluginLoadError: a plugin that was named is missing or broken, or a class is not a plugin.
    """

    def __init__(
        self,
        plugins: Iterable[str | type[Plugin]] | None = None,
        before: Callable[[Registry], None] | None = None,
        refused: Mapping[str, str] = NOBODY,
    ) -> None:
        self.registry = Registry()
        if before is not None:
            before(self.registry)
        self.records: dict[str, PluginRecord] = {}
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Plugin)
        plugins = None if plugins is None else list(plugins)
        asked = {item for item in plugins or () if isinstance(item, str)}
        for record in select(plugins, refused):
            started = record if record.error else self._start(record)
            self.records[record.name] = started
            if started.error and not started.disabled:
                _report(started, asked)
        self.registry._freeze()
        # pluggy's results do not say who gave them, so every plugin is called by itself.
        everyone = self._manager.list_name_plugin()
        self._callers = {
            (name, hook): self._manager.subset_hook_caller(hook, [p for other, p in everyone if other != name])
            for name, record in self.records.items()
            for hook in record.hooks
        }

    def _start(self, record: PluginRecord) -> PluginRecord:
        assert record.factory is not None
        try:
            plugin = record.factory()
            self._manager.register(plugin, record.name)
            others = [other for name, other in self._manager.list_name_plugin() if name != record.name]
            caller = self._manager.subset_hook_caller("register", others)
            if caller(registry=self.registry._as(record.name)):
                raise TypeError("register() must return nothing (and be no generator)")
        except Exception as error:  # noqa: BLE001 - a broken plugin must not stop the others
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            self.registry._drop(record.name)
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
        kind = type(options)
        owners = [n for n, record in self.records.items() if record.factory and record.factory.options is kind]
        if len(owners) == 1:
            return owners[0]
        if owners:
            raise PluginLoadError(
                f"options {kind.__qualname__} belong to the plugins {' and '.join(owners)}; "
                f'say which: {{"plugin": "{owners[0]}", "options": {{...}}}}'
            )
        module = kind.__module__.partition(".")[0]
        for name, record in self.records.items():
            if record.error and record.origin.partition(":")[0].partition(".")[0] == module:
                self.plugin(name)  # raises with the reason
        raise PluginLoadError(
            f"no plugin of this engine has options of type {kind.__qualname__}; give the plugin class to "
            f"the engine, Engine.load(plugins=['{INSTALLED}', {kind.__qualname__}Plugin]), "
            "or install the package that it is in"
        )

    def label(self, name: str) -> str:
        """Distribution and version of a plugin."""
        return self.records[name].label

    # -- calling hooks ----------------------------------------------------------------------------------

    def plan(self, run: Run, names: Sequence[str]) -> Iterator[tuple[str, Problem | Change]]:
        """Call ``plan`` on the named plugins, in order."""
        expected = "Problem or Change, one or several, or None"
        for name in names:
            found = self._call("plan", name, run=run)
            for item in self._items(name, "plan", found, (Problem, Change), expected):
                yield name, item

    def contributions(self, hook: str, run: Run, names: Sequence[str]) -> Iterator[tuple[str, str, Contribution]]:
        """Call a hook that contributes stages on the named plugins; yields (plugin, version, stage)."""
        expected = "contributions made by calling a port, or None"
        for name in names:
            found = self._call(hook, name, run=run)
            for item in self._items(name, hook, found, (Contribution,), expected):
                if item.port.hook != hook:
                    problem = f"port {item.port} belongs to the hook {item.port.hook!r}; return it from there"
                    raise PluginError(name, self.label(name), hook, problem)
                yield name, self.label(name), item

    def observe(self, event: Event, names: Sequence[str]) -> None:
        """Show an event to the named plugins."""
        for name in names:
            self._call("observe", name, event=event)

    def _call(self, hook: str, name: str, **kwargs: Any) -> Any:
        """What a plugin's hook returns, None if it has no such hook."""
        caller = self._callers.get((name, hook))
        if caller is None:
            return None
        try:
            results = caller(**kwargs)
            found = results[0] if results else None
            # A generator runs its body only now: its errors are the plugin's too.
            return list(found) if inspect.isgenerator(found) else found
        except SdcoreError as error:
            error.add_note(f"raised by the hook {hook} of plugin {name!r} ({self.label(name)})")
            raise
        except Exception as error:
            raise PluginError(name, self.label(name), hook, f"{type(error).__name__}: {error}") from error

    def _items(self, name: str, hook: str, found: Any, kinds: tuple[type, ...], expected: str) -> Iterator[Any]:
        items = () if found is None else (found,) if isinstance(found, kinds) else found
        if not isinstance(items, Iterable):
            raise self._wrong(name, hook, found, expected)
        for item in items:
            if not isinstance(item, kinds):
                raise self._wrong(name, hook, item, expected)
            yield item

    def _wrong(self, name: str, hook: str, item: Any, expected: str) -> PluginError:
        return PluginError(name, self.label(name), hook, f"it returned {type(item).__name__}, expected {expected}")


_reported: set[tuple[str, str, str]] = set()


def _report(record: PluginRecord, asked: Iterable[str]) -> None:
    """An error for a broken plugin that was asked for, one warning in a process for one that is only installed."""
    if record.name in asked or record.distribution == GIVEN:
        raise PluginLoadError(f"plugin {record.name!r} ({record.label}) cannot be loaded: {record.error}")
    key = (record.name, record.label, record.error or "")
    if key not in _reported:
        _reported.add(key)
        warnings.warn(
            f"plugin {record.name!r} ({record.label}) is installed but cannot be used: {record.error}",
            RuntimeWarning,
            stacklevel=5,
        )
