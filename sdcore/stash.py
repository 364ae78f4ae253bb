"""Typed private state of a plugin on a run, after pytest's Stash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class StateKey(Generic[T]):
    """A key for ``run.state``. Make one per value at module level: ``MASK: StateKey[Tensor] = StateKey("mask")``.

    Keys are told apart by identity, so two plugins cannot meet; the name is for error messages.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class State:
    """A mapping from :class:`StateKey` to the value of its type. One per run, and dropped with it."""

    def __init__(self) -> None:
        self._values: dict[StateKey[Any], Any] = {}

    def __getitem__(self, key: StateKey[T]) -> T:
        if key not in self._values:
            raise KeyError(f"run.state has no {key!r}: it was not set in this run; set it first, or use get or make")
        return cast(T, self._values[key])

    def __setitem__(self, key: StateKey[T], value: T) -> None:
        self._values[key] = value

    def __delitem__(self, key: StateKey[Any]) -> None:
        del self._values[key]

    def __contains__(self, key: StateKey[Any]) -> bool:
        return key in self._values

    def get(self, key: StateKey[T], default: T) -> T:
        """The value, or ``default``."""
        return cast(T, self._values.get(key, default))

    def make(self, key: StateKey[T], factory: Callable[[], T]) -> T:
        """The value; if there is none, what ``factory`` gives, which is kept."""
        if key not in self._values:
            self._values[key] = factory()
        return cast(T, self._values[key])
