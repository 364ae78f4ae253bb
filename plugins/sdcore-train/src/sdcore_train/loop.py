"""The loop: one update after another, and what is written between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import ports
from .devices import attention
from .diffusion import forward
from .errors import DivergedError
from .losses.functions import mse
from .optim.schedules import rate
from .sharding import whole
from .stages import Outcome, TrainStep

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .prepare import Ready
    from .records import Batch


@dataclass(frozen=True)
class Update:
    """What one update did: the loss, its terms, the learning rate, the norm of the gradient, seconds, pictures."""

    index: int
    loss: float
    terms: Mapping[str, float]
    rate: float
    norm: float
    seconds: float
    pictures: int


class Loop:
    """Carries out updates.

    Args:
        ready: the training, prepared.
    """

    def __init__(self, ready: Ready) -> None:
        job = ready.job
        self.job = job
        self.optimizer = ready.optimizer
        self.ema = ready.ema
        self.steps = ready.steps
        self._rates = ready.rates
        self._parameters: list[torch.nn.Parameter] = list(job.parameters.values())
        # Whoever is not called as a module has its gradients exchanged by hand.
        self._by_hand = [p for one in job.trained if not one.called for p in one.parameters.values()]
        self._wrapped = [job.networks[name] for name in dict.fromkeys(one.name for one in job.trained if one.called)]
        self._update = job.plan.onion(ports.step, self._one)
        self._batches: Iterator[Batch] = iter(())

    def run(self, start: int) -> Generator[Update]:
        """Updates from ``start`` on, one at each step of the iterator.

        Raises:
            DivergedError: the loss or the gradient is not finite; the weights are those before this update.
        """
        job = self.job
        stream = job.data.stream(
            start * job.config.accumulate, process=job.process, processes=job.accelerator.num_processes
        )
        with contextlib.closing(stream) as self._batches:  # type: ignore[type-var]
            for index in range(start, self.steps):
                began = time.perf_counter()
                self._norm, self._pictures = 0.0, 0
                factor = rate(job.config.schedule, index, self.steps)
                for group, full in zip(self.optimizer.param_groups, self._rates, strict=True):
                    group["lr"] = full * factor
                terms = self._update(TrainStep(job, index, self.steps))
                seconds = time.perf_counter() - began
                used = self.optimizer.param_groups[0]["lr"]
                yield Update(index, sum(terms.values()), terms, used, self._norm, seconds, self._pictures)

    def _one(self, step: TrainStep) -> dict[str, float]:
        job = self.job
        count = job.config.accumulate
        totals: dict[str, float] = {}
        keys: list[str] = []
        for micro in range(count):
            at = TrainStep(job, step.index, step.steps, micro)
            batch = job.plan.chain(ports.batch, at, next(self._batches))
            self._pictures += len(batch) * job.accelerator.num_processes
            keys += batch.keys
            with contextlib.ExitStack() as stack:
                self._sync(stack, micro + 1 == count)
                stack.enter_context(job.accelerator.autocast())
                stack.enter_context(attention(job))
                outcome = self._forward(at, batch)
                loss, terms = total_loss(outcome)
                value = float(loss.detach())
                if value != value or value in (float("inf"), float("-inf")):
                    where = f" (micro-batch {at.number})"
                    self._diverged(f"the loss is {value} ({_listed(terms)})", at, where, batch.keys)
                job.accelerator.backward(loss / count)
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + float(term) / count
        self._exchange()
        self._norm = self._clip(step, keys)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(step.index)
        return totals

    def _sync(self, stack: contextlib.ExitStack, last: bool) -> None:
        """Let processes exchange gradients in the last micro-batch only."""
        wrapped: list[Any] = list(self._wrapped)
        for module in wrapped:
            if hasattr(module, "set_requires_gradient_sync"):  # in shards
                module.set_requires_gradient_sync(last)
            elif not last:
                stack.enter_context(self.job.accelerator.no_sync(module))

    def _forward(self, step: TrainStep, batch: Batch) -> Outcome:
        made: Outcome | None = self.job.plan.choose(ports.forward, step, batch)
        return forward(step, batch) if made is None else made

    def _exchange(self) -> None:
        if self.job.accelerator.num_processes < 2 or not self._by_hand:
            return
        import torch

        # Where one process used a weight, the others take part with zeros, or it would wait for them without end.
        has = torch.tensor([float(p.grad is not None) for p in self._by_hand], device=self.job.device)
        used = self.job.accelerator.reduce(has, "sum").tolist()
        for parameter, count in zip(self._by_hand, used, strict=True):
            if count:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.job.accelerator.reduce(own, "mean")

    def _clip(self, step: TrainStep, keys: Sequence[str]) -> float:
        job = self.job
        limit = job.config.optimizer.clip
        norm = job.accelerator.clip_grad_norm_(self._parameters, limit or float("inf"))
        if norm is None:
            return 0.0
        value = float(whole(norm))
        # A gradient that overflows in float16 is what the scaler is for: it leaves that update out.
        if job.config.precision != "fp16" and not value < float("inf"):
            self._diverged(f"the norm of the gradient is {value}", step, "", keys)
        return value

    def _diverged(self, what: str, step: TrainStep, where: str, keys: Sequence[str]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        names = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        raise DivergedError(f"{what} at step {step.index}{where}; its pictures: {names}")


def total_loss(outcome: Outcome) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to go back from, and the mean of each of its terms, detached.

    The terms are added for each picture, and each picture's sum is multiplied by its weight.
    """
    plan = outcome.step.job.plan
    stages = plan[ports.loss]
    terms: dict[str, Tensor] = {}
    if not any(stage.phase == "base" for stage in stages):
        terms["mse"] = mse(outcome.prediction.float(), outcome.target.float(), outcome.masks)
    for name, given in plan.each(ports.loss, outcome):
        if given is None:
            continue
        for key, term in given.items() if isinstance(given, Mapping) else [(name, given)]:
            terms[key] = terms[key] + term if key in terms else term
    weights = plan.chain(ports.loss_weights, outcome, outcome.batch.weights.to(outcome.prediction.device))
    weighted = {name: (term * weights).mean() for name, term in terms.items()}
    loss = sum(weighted.values())
    return loss, {name: term.detach() for name, term in weighted.items()}


def _listed(terms: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {float(value):g}" for name, value in terms.items())
