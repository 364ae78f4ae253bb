"""Turns: engines that share a network carry out one run at a time.

Weights and sites are changed in place during a run, so whoever uses one of these networks waits for the others.
All networks of an engine are taken at once or none, so that two engines cannot wait for each other's halves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import SdcoreError

if TYPE_CHECKING:
    from torch.nn import Module

_changed = threading.Condition()
_holders: dict[int, tuple[int, int]] = {}
"""By id of a network: the thread that holds it, and how many times."""


class Turns:
    """A context manager: inside it, this thread alone uses the networks.

    Args:
        own: the network that decides whether a thread is inside its own run: the U-Net.
        shared: others that engines may share; a run may use an engine that shares them, as a refiner does.
    """

    def __init__(self, own: Module, shared: Iterable[Module]) -> None:
        # By id: whoever takes a turn holds the networks, and turns must not keep a closed engine's alive.
        self._ids = tuple(dict.fromkeys(id(module) for module in (own, *shared)))

    @property
    def mine(self) -> bool:
        """Whether this thread is inside."""
        return _holders.get(self._ids[0], (None, 0))[0] == threading.get_ident()

    def __enter__(self) -> Turns:
        me = threading.get_ident()
        with _changed:
            if self.mine:
                raise SdcoreError(
                    "this engine is in the middle of a run, and was asked for another from inside it (by an event, "
                    "a hook or a stage); ask when the run has ended, or from another thread"
                )
            _changed.wait_for(lambda: all(_holders.get(one, (me, 0))[0] == me for one in self._ids))
            for one in self._ids:
                _holders[one] = (me, _holders.get(one, (me, 0))[1] + 1)
        return self

    def __exit__(self, *_: object) -> None:
        with _changed:
            for one in self._ids:
                thread, times = _holders.pop(one)
                if times > 1:
                    _holders[one] = (thread, times - 1)
            _changed.notify_all()
