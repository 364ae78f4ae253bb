"""The checks: their names, what they ask, what they rest on. Modules with checks register them here."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Scope = Literal["plugin", "case"]
TIERS = ("cpu", "gpu", "weights")
MODULES = ("packaging", "effect", "isolation", "faults", "numbers", "options", "composition")


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        number: as in the documentation.
        name: short, kebab case: what exceptions name.
        title: what a plugin promises that passes.
        scope: ``plugin`` checks see a Subject; ``case`` checks see a Trial, once for every case.
        everywhere: a case check that is carried out on every family, not on the first only.
        tiers: the tiers that it belongs to.
        needs: checks without which its outcome would say nothing new.
    """

    number: int
    name: str
    title: str
    scope: Scope
    function: Callable[[Any], None]
    everywhere: bool = False
    tiers: tuple[str, ...] = ("cpu",)
    needs: tuple[str, ...] = ()


_found: dict[str, Check] = {}
F = Callable[[Any], None]


def check(
    number: int,
    name: str,
    title: str,
    *,
    scope: Scope = "case",
    everywhere: bool = False,
    tiers: tuple[str, ...] = ("cpu",),
    needs: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register a function as a check. It returns, or raises Failed, NotApplicable, or any error, which fails it."""

    def register(function: F) -> F:
        assert name not in _found or _found[name].function.__qualname__ == function.__qualname__, name
        _found[name] = Check(number, name, title, scope, function, everywhere, tiers, needs)
        return function

    return register


@functools.cache
def checks() -> Mapping[str, Check]:
    """All checks by name, in the order of their numbers."""
    for module in MODULES:
        importlib.import_module(f".{module}", __package__)
    return MappingProxyType(dict(sorted(_found.items(), key=lambda item: item[1].number)))
