"""Typed private state of a plugin on a run, after pytest's Stash."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class StateKey(Generic[T]):
    """A key for ``run.state``. Make one per value at module level: ``MASK: StateKey[Tensor] = StateKey()``."""


class State:
    """A mapping from :class:`StateKey` to the value of its type. Dropped at the end of the run."""

    def __init__(self) -> None:
        self._values: dict[StateKey[Any], Any] = {}

    def __getitem__(self, key: StateKey[T]) -> T:
        return cast(T, self._values[key])

    def __setitem__(self, key: StateKey[T], value: T) -> None:
        self._values[key] = value

    def __contains__(self, key: StateKey[Any]) -> bool:
        return key in self._values

    def get(self, key: StateKey[T], default: T) -> T:
        """The value, or ``default``."""
        return cast(T, self._values.get(key, default))
