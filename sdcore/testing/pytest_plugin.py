"""Fixtures for tests of plugins, through the entry-point group ``pytest11``.

Every pytest run in an environment with sdcore imports this module, so it imports nothing itself and does nothing
until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sdcore.engine import Engine
    from sdcore.plugin import Plugin
    from sdcore.testing.conformance.outcome import Report


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of tests that need a GPU."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


@pytest.fixture
def sdcore_engine() -> Iterator[Callable[..., Engine]]:
    """``sdcore_engine(GlowPlugin, family="sd1")``: an engine on a small random model, closed when the test ends.

    Plugins are classes or names; nothing else that is installed is loaded. Families: "sd1", "sd2", "sdxl".
    """
    made: list[Engine] = []

    def make(*plugins: str | type[Plugin], family: str = "sd1", **how: Any) -> Engine:
        from sdcore.engine import Engine
        from sdcore.testing.conformance.setting import setting_of

        made.append(Engine(setting_of(family).model, plugins=plugins, **how))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def sdcore_embedded_engine() -> Iterator[Callable[..., Engine]]:
    """The same on the model that is installed; the test is skipped if there is none."""
    from sdcore.errors import ModelError
    from sdcore.testing.conformance.setting import setting_of

    made: list[Engine] = []

    def make(*plugins: str | type[Plugin], **how: Any) -> Engine:
        from sdcore.engine import Engine

        try:
            model = setting_of("embedded").model
        except ModelError as error:
            pytest.skip(str(error))
        made.append(Engine(model, plugins=plugins, **how))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def sdcore_conformance() -> Callable[..., Report]:
    """``sdcore_conformance("glow")``: the report of every check, as `sdcore check glow` prints it.

    Takes a name, a plugin class, or a subclass of PluginConformance.
    """

    def carry_out(plugin: Any, tier: str = "cpu") -> Report:
        from sdcore.testing.conformance.base import PluginConformance
        from sdcore.testing.conformance.finding import find, subject_of
        from sdcore.testing.conformance.running import run_all

        if isinstance(plugin, str):
            return run_all(find(plugin, tier))
        if not issubclass(plugin, PluginConformance):
            plugin = type("Given", (PluginConformance,), {"plugin": plugin})
        return run_all(subject_of(plugin, tier))

    return carry_out
