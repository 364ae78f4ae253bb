"""From the entries of ``use`` to training plugins."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sdcore import Options
from sdcore.plugin import nearest
from sdcore.request import explain_validation
from sdcore.uses import Use

from .config import TrainConfig
from .errors import ConfigError
from .hooks import Training

T = TypeVar("T", bound=Options)
Plugins = tuple[tuple[str, Training], ...]
"""(label, plugin) of everything that takes part; the label is the name, or "name 2" for a second use of it."""


def known_plugins(extra: Iterable[type[Training]] = ()) -> dict[str, type[Training]]:
    """Training plugins by name: what installed packages register, and ``extra``.

    Raises:
        ConfigError: something is not a training plugin.
    """
    from sdcore.host import PluginHost

    found = {name: _class_of(value) for name, value in PluginHost().registry.all("training").items()}
    return found | {one.name: one for one in map(_class_of, extra)}


def _class_of(value: Any) -> type[Training]:
    """A training plugin that was registered as itself or as ``"module:Class"``."""
    if isinstance(value, str):
        module, _, name = value.partition(":")
        value = getattr(importlib.import_module(module), name, value)
    if not (isinstance(value, type) and issubclass(value, Training) and value.name):
        raise ConfigError(f"{value!r} is not a training plugin: a subclass of sdcore_train.Training with a name")
    return value


def resolve(config: TrainConfig, known: Mapping[str, type[Training]]) -> tuple[TrainConfig, Plugins]:
    """The plugins of a configuration, and the configuration with ``use`` in its JSON form.

    Raises:
        ConfigError: a plugin is unknown, or refuses its options.
    """
    plugins: list[tuple[str, Training]] = []
    uses: list[Use] = []
    done: set[int] = set()
    while True:
        # A plugin's `configure` may add others to `use`: they are looked at in turn.
        for entry in config.use[len(uses) :]:
            name, options = _one(entry, known)
            count = sum(use.plugin == name for use in uses)
            plugins.append((name if not count else f"{name} {count + 1}", known[name](options)))
            uses.append(Use(plugin=name, options=options.model_dump(mode="json", exclude_unset=True)))
        for number, (_, plugin) in enumerate(plugins):
            if number not in done:
                done.add(number)
                config = with_defaults(config, plugin.defaults)
                config = plugin.configure(config) or config
        if len(config.use) == len(uses):
            return config.model_copy(update={"use": tuple(uses)}), tuple(plugins)


def _one(entry: Options | Use, known: Mapping[str, type[Training]]) -> tuple[str, Options]:
    if isinstance(entry, Use):
        if entry.plugin not in known:
            raise ConfigError(f"there is no training plugin {entry.plugin!r}.{nearest(entry.plugin, known)}")
        try:
            return entry.plugin, known[entry.plugin].Options(**entry.options)
        except ValidationError as error:
            raise ConfigError(f"use: {entry.plugin}: {explain_validation(error)}") from None
    for name, plugin in known.items():
        if plugin.Options is type(entry):
            return name, entry
    raise ConfigError(
        f"no training plugin has options of type {type(entry).__qualname__}; give its class to train(plugins=[...])"
    )


def with_defaults(config: TrainConfig, defaults: Mapping[str, Any]) -> TrainConfig:
    """The configuration with values where the user gave none; names are dotted: "optimizer.learning_rate"."""
    for dotted, value in defaults.items():
        section, _, name = dotted.rpartition(".")
        part: Options = getattr(config, section) if section else config
        if name not in part.model_fields_set:
            config = changed(config, **({section: changed(part, **{name: value})} if section else {name: value}))
    return config


def changed(part: T, **values: Any) -> T:
    """A configuration or a section of it with other values, checked again."""
    return type(part)(**{**{name: getattr(part, name) for name in part.model_fields_set}, **values})
