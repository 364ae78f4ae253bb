"""Order: from contributions to a frozen plan, with every conflict found before the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConflictError
from .ports import PORTS, Contribution, Port
from .stages import Site


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A contribution in its place, with the name of whom to blame."""

    port: Port[Any]
    fn: Any
    plugin: str
    version: str
    phase: str | None = None
    sites: tuple[Site, ...] | None = None
    graph_safe: bool = False


@dataclass(frozen=True)
class Row:
    """One line of ``engine.explain``."""

    port: str
    kind: str
    order: int
    plugin: str
    version: str
    phase: str | None
    stage: str
    sites: int | None
    default: bool


class Plan:
    """Which stage runs where, in order. Immutable."""

    def __init__(self, stages: Mapping[Port[Any], tuple[Stage, ...]], defaults: Mapping[Port[Any], Stage]) -> None:
        self._stages = {port: tuple(found) for port, found in stages.items() if found}
        self._defaults = dict(defaults)

    def __getitem__(self, port: Port[Any]) -> tuple[Stage, ...]:
        """The stages of a port in order, with the core's default stages where the port has some."""
        found = self._stages.get(port, ())
        if not found and port in self._defaults:
            return (self._defaults[port],)
        return found

    def claimed(self, port: Port[Any]) -> bool:
        """Whether a plugin contributed to the port (the core's defaults do not count)."""
        return port in self._stages

    def rows(self) -> list[Row]:
        """The plan as a table, in the order of the run."""
        rows = []
        for port in PORTS:
            for order, stage in enumerate(self[port], start=1):
                rows.append(
                    Row(
                        str(port),
                        port.kind,
                        order,
                        stage.plugin,
                        stage.version,
                        stage.phase,
                        getattr(stage.fn, "__qualname__", type(stage.fn).__name__),
                        None if stage.sites is None else len(stage.sites),
                        stage is self._defaults.get(port),
                    )
                )
        return rows

    def lines(self) -> tuple[str, ...]:
        """The plan as short lines, for the record."""
        return tuple(
            f"{row.port}{f' [{row.phase}]' if row.phase else ''}: {row.plugin}"
            for row in self.rows()
            if not row.default
        )

    def __str__(self) -> str:
        header = ("port", "kind", "#", "phase", "plugin", "stage")
        table = [header]
        for row in self.rows():
            plugin = "core (default)" if row.default else f"{row.plugin} ({row.version})"
            stage = row.stage + (f" at {row.sites} sites" if row.sites is not None else "")
            table.append((row.port, row.kind, str(row.order), row.phase or "", plugin, stage))
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        )


def compile_plan(
    contributions: Iterable[tuple[str, str, Contribution]],
    rank: Mapping[str, int],
    defaults: Iterable[tuple[Port[Any], Any]] = (),
) -> Plan:
    """Sort contributions into a plan.

    Args:
        contributions: (plugin, version, contribution), in the order in which the hooks returned them.
        rank: plugin name to its place in ``use``.
        defaults: what the core does at a port that no plugin claims.

    Raises:
        ConflictError: two claimants of a choose port, or a cycle of before and after.
    """
    by_port: dict[Port[Any], list[tuple[str, str, Contribution]]] = {}
    for plugin, version, contribution in contributions:
        by_port.setdefault(contribution.port, []).append((plugin, version, contribution))
    stages: dict[Port[Any], tuple[Stage, ...]] = {}
    for port, found in by_port.items():
        if port.kind == "choose" and len(found) > 1:
            first, second = (f"{plugin!r} ({version})" for plugin, version, _ in found[:2])
            raise ConflictError(
                f"plugins {first} and {second} both claim {port}, which only one can have; "
                "leave one of them out of `use`"
            )
        stages[port] = tuple(
            Stage(port, item.fn, plugin, version, item.phase, item.sites, item.graph_safe)
            for plugin, version, item in _sorted(port, found, rank)
        )
    return Plan(stages, {port: Stage(port, fn, "core", "sdcore") for port, fn in defaults})


def _sorted(
    port: Port[Any], found: Sequence[tuple[str, str, Contribution]], rank: Mapping[str, int]
) -> list[tuple[str, str, Contribution]]:
    ordered: list[tuple[str, str, Contribution]] = []
    for phase in port.phases or (None,):
        group = [item for item in found if item[2].phase == phase]
        names = sorted({plugin for plugin, _, _ in group}, key=lambda name: (rank.get(name, len(rank)), name))
        for name in _topological(port, names, group):
            ordered.extend(item for item in group if item[0] == name)
    return ordered


def _topological(
    port: Port[Any], names: Sequence[str], group: Sequence[tuple[str, str, Contribution]]
) -> list[str]:
    """Kahn's algorithm; among the free ones, the first in ``names`` goes first."""
    earlier: dict[str, set[str]] = {name: set() for name in names}
    for plugin, _, item in group:
        earlier[plugin] |= item.after & earlier.keys()
        for later in item.before & earlier.keys():
            earlier[later].add(plugin)
    ordered: list[str] = []
    while len(ordered) < len(names):
        free = next((name for name in names if name not in ordered and earlier[name] <= set(ordered)), None)
        if free is None:
            stuck = ", ".join(repr(name) for name in names if name not in ordered)
            raise ConflictError(
                f"the order of {port} is contradictory: {stuck} each ask to run before the other; "
                "leave one of them out of `use`, or report it to their authors"
            )
        ordered.append(free)
    return ordered
