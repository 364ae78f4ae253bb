"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sdcore import RequestError


def decay_at(step: int, decay: float, warmup: bool) -> float:
    """How much of the average is kept at one update.

    With the warm-up it is ``min(decay, (1 + step) / (10 + step))``, and 0 at the first update, whose weights
    become the average, as in ``diffusers.training_utils.EMAModel``.

    Args:
        step: updates done before this one, from 0.
        decay: the most that is kept, in [0, 1).
        warmup: keep less in the first updates.
    """
    if not warmup:
        return decay
    return 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))


class Ema:
    """An average of parameters over the updates, which starts as a copy of them.

    The average of parameters in 16 bits is kept in float32: steps of a slow average would be lost in rounding.

    Args:
        parameters: by name. They are read by `update` and written by `swap`.
        decay: the most of the average that an update keeps, in [0, 1); 0.999 is usual.
        warmup: keep less in the first updates: see `decay_at`.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self._parameters = dict(parameters)
        self._averages = {name: _as_average(parameter) for name, parameter in self._parameters.items()}
        self._swapped = False

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after an update.

        Args:
            step: updates done before this one, from 0. It decides the decay, so that there is no counter to save.
        """
        self._not_swapped("update")
        averages = list(self._averages.values())
        weights = [
            parameter.detach().to(average.dtype)
            for parameter, average in zip(self._parameters.values(), averages, strict=True)
        ]
        torch._foreach_lerp_(averages, weights, 1 - decay_at(step, self.decay, self.warmup))

    @contextmanager
    def swap(self) -> Iterator[None]:
        """While it is entered, the parameters hold the average; afterwards they are, bit for bit, what they were.

        The weights change places with the average, one tensor after another, so that this needs no memory for a
        copy (other than for parameters in 16 bits). What is written to the parameters meanwhile ends up in the average.
        """
        self._not_swapped("swap")
        self._swapped = True
        copies: dict[str, Tensor] = {}
        try:
            self._exchange(copies)
            yield
        finally:
            self._exchange(copies)
            self._swapped = False

    def state(self) -> dict[str, Tensor]:
        """The average by the parameters' names: the tensors themselves, so write them before the next update."""
        self._not_swapped("state")
        return dict(self._averages)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:
            RequestError: it is not of the same parameters. Nothing was changed.
        """
        self._not_swapped("load")
        odd = sorted(set(tensors) ^ set(self._averages))
        if odd:
            raise RequestError(
                f"the saved average has {len(tensors)} tensors and {len(self._averages)} parameters are trained; "
                f"they differ in {', '.join(map(repr, odd[:3]))}: go on with what was trained before"
            )
        for name, average in self._averages.items():
            if tensors[name].shape != average.shape:
                raise RequestError(
                    f"the saved average of {name!r} has the shape {tuple(tensors[name].shape)} and the parameter "
                    f"{tuple(average.shape)}: go on with the model that was trained before"
                )
        for name, average in self._averages.items():
            average.copy_(tensors[name])

    @torch.no_grad()
    def _exchange(self, copies: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            average = self._averages[name]
            if name in copies:
                parameter.copy_(copies.pop(name))
            elif parameter.dtype != average.dtype:
                copies[name] = parameter.detach().clone()
                parameter.copy_(average)
            else:
                weight = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(weight)

    def _not_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(f"Ema.{what}: the parameters hold the average; leave swap() first")


def _as_average(parameter: torch.nn.Parameter) -> Tensor:
    half = parameter.dtype in (torch.float16, torch.bfloat16)
    return parameter.detach().to(torch.float32 if half else parameter.dtype, copy=True)
