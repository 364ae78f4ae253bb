"""The stages of a training in their order, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sdcore.calling import add, call, chain_at, onion
from sdcore.order import Plan, Stage, compile_plan
from sdcore.ports import Contribution, Port

from .errors import TrainingError
from .hooks import Training


class TrainingPlan:
    """Which stage runs where. An empty port costs a look-up.

    Raises:
        ConflictError: two plugins claim a port that only one can have.
        TrainingError: a plugin contributed something else than stages.
    """

    def __init__(self, plugins: Iterable[tuple[str, Training]], job: Any) -> None:
        found: list[tuple[str, str, Contribution]] = []
        rank: dict[str, int] = {}
        for label, plugin in plugins:
            rank[label] = len(rank)
            for item in _items(plugin.stages(job)):
                if not isinstance(item, Contribution):
                    raise TrainingError(
                        f"the training plugin {label!r} contributed {type(item).__name__}; stages are made by calling "
                        "a port of sdcore_train.ports"
                    )
                found.append((label, type(plugin).__module__.partition(".")[0], item))
        self._plan: Plan = compile_plan(found, rank)

    def __getitem__(self, port: Port[Any]) -> tuple[Stage, ...]:
        return self._plan[port]

    def choose(self, port: Port[Any], *args: Any) -> Any:
        """What the one claimant gives, or None if there is none."""
        stages = self._plan[port]
        return call(stages[0], *args) if stages else None

    def chain(self, port: Port[Any], where: Any, value: Any) -> Any:
        """Fold a value through the stages of a chain port that take (where, value)."""
        return chain_at(self._plan[port], where, value)

    def add(self, port: Port[Any], total: Any, *args: Any) -> Any:
        """The sum of a sum port."""
        return add(self._plan[port], total, *args)

    def each(self, port: Port[Any], *args: Any) -> Iterable[tuple[str, Any]]:
        """(plugin, what it gives) of every stage of a port."""
        for stage in self._plan[port]:
            yield stage.plugin, call(stage, *args)

    def onion(self, port: Port[Any], core: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``core`` with the stages of an around port about it."""
        return onion(self._plan[port], core)


def _items(found: Any) -> Iterable[Any]:
    return () if found is None else (found,) if isinstance(found, Contribution) else found
