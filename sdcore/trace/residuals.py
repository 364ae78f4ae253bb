"""What is added inside the U-Net (ControlNet, T2I-Adapter), relative to what it is added to.

A stage that adds residuals cannot be measured when it does: what they are added to is made later, by the U-Net.
So their norms wait until its blocks have run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sdcore.stages import UNetInput

from .norms import Squares, difference, square
from .recorder import Place, Recorder

KINDS = {"down_residuals": "down", "mid_residual": "mid", "intrablock_residuals": "inside"}


class Residuals:
    """Norms of residuals by where they are added: ``down`` (skip connections), ``mid``, ``inside`` (down blocks)."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: list[tuple[Place, int | None, str, float]] = []
        self._there: dict[str, float] = {}

    @property
    def wanted(self) -> bool:
        """Whether something waits for the norms of the next U-Net call."""
        return bool(self._waiting)

    def change(self, old: UNetInput, new: UNetInput, place: Place, step: int | None) -> Squares | None:
        """What a stage changed in the U-Net's input at once; its residuals are told when they are :meth:`settle`d.

        Further channels are a change of the whole input: they are related to the sample that they are joined to.
        """
        before = (old.sample, old.context, old.added)
        found = difference(before, (new.sample, new.context, new.added))
        if new.extra_channels is not old.extra_channels and found is not None:
            added = square(new.extra_channels)
            added -= 0.0 if old.extra_channels is None else square(old.extra_channels)
            found = found[0] + max(added, 0.0), found[1] + square(old.sample)
        waits = False
        for name, kind in KINDS.items():
            one, other = getattr(old, name), getattr(new, name)
            if other is not None and other is not one:
                squares = difference(one, other)
                if squares is not None:
                    waits = True
                    self._waiting.append((place, step, kind, squares[0] / _rows(other)))
        return None if waits and found == (0.0, 0.0) else found

    def block_ran(self, kind: str, tensors: Iterable[Any]) -> None:
        """Values to which residuals of a kind are added, before they are."""
        for tensor in tensors:
            self._there[kind] = self._there.get(kind, 0.0) + square(tensor) / tensor.shape[0]

    def settle(self) -> None:
        """The U-Net has run: say what the waiting residuals were relative to it."""
        together: dict[tuple[Place, int | None], Squares] = {}
        for place, step, kind, change in self._waiting:
            known = together.get((place, step), (0.0, 0.0))
            together[place, step] = known[0] + change, known[1] + self._there.get(kind, 0.0)
        for (place, step), squares in together.items():
            self._recorder.changed(place, step, squares)
        self._waiting.clear()
        self._there.clear()


def _rows(value: Any) -> int:
    return int((value[0] if isinstance(value, tuple) else value).shape[0])
