"""Order: from contributions to a frozen plan, with every conflict found before the run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .errors import ConflictError
from .ports import PORTS, Contribution, Port
from .stages import Site

_Found = tuple[str, str, Contribution]


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
    """One line of ``engine.explain``: a stage, or ``count`` weight patches of a plugin in a row."""

    port: str
    kind: str
    order: int
    plugin: str
    version: str
    phase: str | None
    stage: str
    sites: int | None
    default: bool
    count: int = 1


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

    def replaced(self, change: Callable[[Stage], Stage]) -> Plan:
        """The same plan with another stage in each place; the core's defaults stay."""
        return Plan({port: tuple(map(change, found)) for port, found in self._stages.items()}, self._defaults)

    def rows(self) -> list[Row]:
        """The plan as a table, in the order of the run."""
        rows: list[Row] = []
        for port in PORTS:
            for order, (plugin, version, phase, name, found) in enumerate(_runs(self[port]), start=1):
                sites = None if found[0].sites is None else len(found[0].sites)
                default = found[0] is self._defaults.get(port)
                rows.append(Row(str(port), port.kind, order, plugin, version, phase, name, sites, default, len(found)))
        return rows

    def lines(self, without: Collection[str] = ()) -> tuple[str, ...]:
        """The plan as short lines, for the record; ``without`` names plugins to leave out."""
        return tuple(
            f"{row.port}{f' [{row.phase}]' if row.phase else ''}: {row.plugin}"
            for row in self.rows()
            if not row.default and row.plugin not in without
        )

    def __str__(self) -> str:
        header = ("port", "kind", "#", "phase", "plugin", "stage")
        table = [header]
        for row in self.rows():
            plugin = "core (default)" if row.default else f"{row.plugin} ({row.version})"
            stage = row.stage if row.count == 1 else f"{row.count} x {row.stage}"
            if row.sites is not None:
                stage += f" at {row.sites} site{'' if row.sites == 1 else 's'}"
            table.append((row.port, row.kind, str(row.order), row.phase or "", plugin, stage))
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
        )


def _runs(stages: Sequence[Stage]) -> Iterable[tuple[str, str, str | None, str, list[Stage]]]:
    """Stages one by one, but the many weight patches of one plugin together."""
    for patches, group in groupby(stages, key=lambda stage: None if callable(stage.fn) else stage.plugin):
        found = list(group)
        for part in [found] if patches else [[stage] for stage in found]:
            first = part[0]
            name = getattr(first.fn, "__qualname__", type(first.fn).__name__)
            yield first.plugin, first.version, first.phase, name, part


def compile_plan(
    contributions: Iterable[_Found],
    rank: Mapping[str, int],
    defaults: Iterable[tuple[Port[Any], Any]] = (),
) -> Plan:
    """Sort contributions into a plan.

    Args:
        contributions: (plugin, version, contribution), in the order in which the hooks returned them.
        rank: plugin name to its place in ``use``; sums do not look at it.
        defaults: what the core does at a port that no plugin claims.

    Raises:
        ConflictError: two claimants of a choose port, or a cycle of before and after.
    """
    by_port: dict[Port[Any], list[_Found]] = {}
    for plugin, version, contribution in contributions:
        by_port.setdefault(contribution.port, []).append((plugin, version, contribution))
    stages: dict[Port[Any], tuple[Stage, ...]] = {}
    for port, found in by_port.items():
        if port.kind == "choose" and len(found) > 1:
            names = list(dict.fromkeys(f"{plugin!r} ({version})" for plugin, version, _ in found))
            who = f"plugins {' and '.join(names)} both claim" if len(names) > 1 else f"plugin {names[0]} claims twice"
            raise ConflictError(f"{who} {port}, which only one stage can have; leave one of them out of `use`")
        stages[port] = tuple(
            Stage(port, item.fn, plugin, version, item.phase, item.sites, item.graph_safe)
            for plugin, version, item in _sorted(port, found, rank)
        )
    return Plan(stages, {port: Stage(port, fn, "core", "sdcore") for port, fn in defaults})


def _sorted(port: Port[Any], found: Sequence[_Found], rank: Mapping[str, int]) -> list[_Found]:
    """In order. Sums are added by name: floating-point addition is not associative, the law of sums is."""

    def key(item: _Found) -> tuple[int, str]:
        plugin = item[0]
        return (0 if port.kind == "sum" else rank.get(plugin, len(rank)), plugin)

    ordered: list[_Found] = []
    for phase in port.phases or (None,):
        # Sorting is stable: what one plugin contributes twice stays as its hook returned it.
        group = sorted((item for item in found if item[2].phase == phase), key=key)
        ordered += _topological(port, group)
    return ordered


def _topological(port: Port[Any], group: Sequence[_Found]) -> list[_Found]:
    """Kahn's algorithm; among the free stages, the first in ``group`` goes first."""
    if not any(item.before or item.after for _, _, item in group):
        return list(group)
    earlier: list[set[int]] = [set() for _ in group]
    for one, (plugin, _, item) in enumerate(group):
        for other, (name, _, _) in enumerate(group):
            if name == plugin:
                continue  # a plugin's own stages are in the order in which it returned them
            if name in item.after:
                earlier[one].add(other)
            if name in item.before:
                earlier[other].add(one)
    ordered: list[int] = []
    while len(ordered) < len(group):
        free = next((i for i in range(len(group)) if i not in ordered and earlier[i] <= set(ordered)), None)
        if free is None:
            names = [f"{group[i][0]!r} ({group[i][1]})" for i in _cycle(earlier, set(ordered))]
            raise ConflictError(
                f"the order of {port} is contradictory: {' before '.join([*names, names[0]])}; "
                "leave one of them out of `use`, or report it to their authors"
            )
        ordered.append(free)
    return [group[i] for i in ordered]


def _cycle(earlier: Sequence[set[int]], done: set[int]) -> list[int]:
    """A cycle among the stages that are not done, each before the next."""
    walked = [min(i for i in range(len(earlier)) if i not in done)]
    while True:
        previous = min(earlier[walked[-1]] - done)
        if previous in walked:
            return walked[walked.index(previous) :][::-1]
        walked.append(previous)
