"""One use of a control net in one run: what it adds to the U-Net in each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdcore import RequestError

from . import forward, strength

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore import Step
    from sdcore.stages import UNetInput

    from .nets import Net
    from .options import ControlNet

UNCONTROLLED = frozenset({"uncond"})
"""Branches without control in the mode "control"."""


@dataclass(eq=False)
class Control:
    """A net with its picture, in one run.

    Attributes:
        options: as the user gave them.
        net: the net.
        image: control picture (1, channels, height, width).
        mask: (1, 1, height, width), or None.
        factors: one for each residual.
        pooled: ``global_pool_conditions``: averaged over the picture, and only where there is a prompt.
    """

    options: ControlNet
    net: Net
    image: Tensor
    mask: Tensor | None
    factors: tuple[float, ...]
    pooled: bool = False
    _embedded: dict[int, Tensor] = field(default_factory=dict)
    _features: list[Tensor] | None = None
    _kept: dict[Any, Any] = field(default_factory=dict)
    _parts: dict[Any, Any] = field(default_factory=dict)

    def residuals(self, inputs: UNetInput) -> list[Tensor]:
        """What a ControlNet adds in this step, weighed, for all rows: the last is the middle block's."""
        places = self._places(inputs)
        sample, context, added = self._part(inputs, places)
        embedded = self._embedding(sample)
        kept = self._kept if self.net.remembers else None
        found = forward.control_residuals(self.net.module, sample, inputs.timestep, context, embedded, added, kept)
        found = forward.weigh(found, self.factors, self.mask, self.pooled)
        return found if places is None else forward.spread(found, inputs.sample.shape[0], places)

    def features(self, inputs: UNetInput) -> list[Tensor]:
        """What a T2I-Adapter adds, weighed, for all rows. Computed once a run."""
        if self._features is None:
            factor = int(self.net.module.config.downscale_factor)
            made = list(self.net.module(forward.to_multiple(self.image, factor)))
            self._features = forward.weigh(made, self.factors, self.mask, False)
        rows = inputs.sample.shape[0]
        full = [value.expand(rows, -1, -1, -1) for value in self._features]
        places = self._places(inputs)
        if places is None:
            return full
        part = [value[: sum(place.stop - place.start for place in places)] for value in full]
        return forward.spread(part, rows, places)

    def _places(self, inputs: UNetInput) -> list[slice] | None:
        """The rows that are controlled; None for all."""
        if self.options.mode != "control" and not self.pooled:
            return None
        controlled = [branch.id for branch in inputs.branches if branch.id not in UNCONTROLLED]
        return None if len(controlled) == len(inputs.branches) else [inputs.rows[name] for name in controlled]

    def _part(self, inputs: UNetInput, places: list[slice] | None) -> tuple[Tensor, Tensor, dict[str, Tensor] | None]:
        """Sample, context and added conditions of the controlled rows."""
        added = None if inputs.added is None else dict(inputs.added)
        if places is None:
            return inputs.sample, inputs.context, added
        key = id(inputs.context)
        if key not in self._parts:  # the same tensor in every step, so that its keys and values are found again
            if len(self._parts) >= 4:
                self._parts.clear()
            part = None if added is None else {name: _pick(value, places) for name, value in added.items()}
            self._parts[key] = inputs.context, _pick(inputs.context, places), part
        _, context, part = self._parts[key]
        return _pick(inputs.sample, places), context, part

    def _embedding(self, sample: Tensor) -> Tensor:
        """The control picture's features, once a run: they depend on it alone.

        For as many rows as the sample has: with another number of rows a convolution may round otherwise.
        """
        rows = sample.shape[0]
        if rows not in self._embedded:
            image = self.image.contiguous().repeat(rows, 1, 1, 1)
            self._embedded[rows] = forward.embed_condition(self.net.module, image)
        embedded = self._embedded[rows]
        if embedded.shape[-2:] != sample.shape[-2:]:
            raise RequestError(
                f"the control picture was made for latents of {tuple(embedded.shape[-2:])}, and this step has "
                f"{tuple(sample.shape[-2:])}; a plugin that draws in parts must say which, in the request's window"
            )
        return embedded

    def acts(self, step: Step) -> bool:
        """Whether it acts in this step, as a ControlNet."""
        return strength.acts(step.index, step.count, self.options.start, self.options.end)

    def adapter_acts(self, step: Step) -> bool:
        """Whether it acts in this step, as a T2I-Adapter."""
        schedule = step.run.schedule
        steps = min(schedule.steps * schedule.order, step.count)
        return strength.adapter_acts(step.index, step.count, steps, self.options.start, self.options.end)


def _pick(value: Tensor, places: list[slice]) -> Tensor:
    import torch

    return value[places[0]] if len(places) == 1 else torch.cat([value[place] for place in places])
