"""Job: one request on its way through an engine, batch by batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import ports
from .batches import Batch, kept_back
from .calling import broke, onion
from .changes import plan_changes
from .checks import check_run
from .errors import Withheld
from .events import Event, Started, Stepped, Warned
from .finishing import finish
from .host import PluginHost
from .judging import withheld
from .order import Plan
from .passes import PassState, Services, carry_out, plan_run
from .resolve import Uses, complete
from .run import Run
from .stages import Prompt, RunOutput

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from torch.nn import Module

    from .models import Model
    from .request import GenerateRequest
    from .stages import Site, Step
    from .text import TextCache
    from .trace.tracer import Tracer

Observer = Callable[[Event], object]


@dataclass(frozen=True)
class Job:
    """What the batches of a request share.

    Attributes:
        host, model, sites, texts, max_pixels: the engine's.
        uses: plugins and options, the policy's among them.
        policy: names of the plugins that the application has in ``always``.
        known: schedules that were checked before.
        cancelled: set by whoever wants to stop.
        observer: told of events, beside the plugins.
        image: the input picture as the user gave it.
        told: what plugins have warned of.
        tracer: what is put around stages to trace them, or None.
    """

    host: PluginHost
    model: Model
    sites: Mapping[Site, Module]
    texts: TextCache | None
    max_pixels: int
    uses: Uses
    policy: frozenset[str]
    known: set[object]
    cancelled: threading.Event
    observer: Observer | None = None
    image: Any = None
    told: set[str] = field(default_factory=set)
    tracer: Tracer | None = None

    def planned(self, request: GenerateRequest, indices: Sequence[int]) -> tuple[Run, bool]:
        """The run of some pictures of a complete request, as the plugins' ``plan`` has changed it.

        Returns:
            The run, and whether previews may leave.
        """
        assert request.seeds is not None
        run = self._run(request, [request.seeds[index] for index in indices], indices)
        return run, plan_changes(run, self.host, self.max_pixels)

    def plan(self, run: Run) -> Plan:
        """The plan of a planned run, checked; nothing has been computed."""
        plan = plan_run(self.host, run)
        check_run(run, plan, self.policy, self.known)
        return plan if self.tracer is None else self.tracer.plan(plan)

    def carry_out(self, run: Run, previews: bool, number: int, of: int) -> Batch:
        """Carry out one batch, from its plan to finished pictures."""
        run.check_cancelled()
        _take_own_latents(run)
        plan = self.plan(run)
        state = PassState(len(run.seeds))
        state.judge(plan, Prompt(run.request.prompt, run.request.negative_prompt))
        assert run.request.steps is not None
        self.tell(Started(run, number, of, run.request.steps))
        try:
            output: RunOutput = onion(plan[ports.whole_run], self._passes(run, plan, previews, state))(run.request)
        except Withheld:
            if not all(withheld(verdicts) for verdicts in state.verdicts):
                raise
            return Batch(None, kept_back(run, state.verdicts), state.lost)  # other batches may have what can leave
        if run.request.output == "latent":
            return Batch(output.latents, kept_back(run, state.verdicts), state.lost)
        if output.images is None:
            raise broke(plan[ports.whole_run][0], "it returned latents without pictures, but pictures were asked for")
        items, covered = finish(run, plan, self.host, output, state, self.uses, self.image)
        return Batch(_without(output.latents, covered), items, state.lost)

    def tell(self, event: Event) -> None:
        """Show an event to the plugins in use, then to the caller."""
        self.host.observe(event, event.run.plugins)
        if self.observer is not None:
            self.observer(event)

    # -- pieces -----------------------------------------------------------------------------------------

    def _run(
        self, request: GenerateRequest, seeds: Sequence[int], indices: Sequence[int], outer: Run | None = None
    ) -> Run:
        return Run(
            request,
            self.model,
            self.host.registry,
            self.uses,
            seeds,
            indices,
            lambda: self.sites,
            self.cancelled,
            outer,
            self._warned,
            self.image,
        )

    def _stepped(self, run: Run, step: Step, preview: Callable[[], list[Image]]) -> None:
        self.tell(Stepped(run, step, preview))
        if self.tracer is not None:
            self.tracer.stepped(step.index)

    def _warned(self, run: Run, message: str) -> None:
        if message not in self.told:  # hooks are called once more where memory decides how large batches are
            self.told.add(message)
            self.tell(Warned(run, message))

    def _passes(self, run: Run, plan: Plan, previews: bool, state: PassState) -> Callable[[GenerateRequest], RunOutput]:
        """What the stages of ``whole_run`` are wrapped around: a request to a pass with a plan of its own."""
        services = Services(
            self.host,
            self.texts,
            self.sites,
            self._stepped,
            lambda run, message: self.tell(Warned(run, message)),
        )
        begun: list[Run] = []

        def one_pass(request: GenerateRequest) -> RunOutput:
            child, its_plan = run, plan
            if begun or request is not run.request:  # also a second pass of the same: generators begin anew
                child = self._child(run, request)
                its_plan = plan_run(self.host, child)
                its_plan = its_plan if self.tracer is None else self.tracer.plan(its_plan)
            begun.append(child)
            return carry_out(child, its_plan, services, state, previews)

        return one_pass

    def _child(self, outer: Run, request: GenerateRequest) -> Run:
        if request.seeds is None or len(request.seeds) != len(outer.seeds):
            request = request.model_copy(update={"seed": None, "seeds": outer.seeds, "count": len(outer.seeds)})
        full = complete(request, self.model, self.max_pixels)
        child = self._run(full, full.seeds or outer.seeds, outer.indices, outer)
        plan_changes(child, self.host, self.max_pixels)
        return child


def _take_own_latents(run: Run) -> None:
    """Of latents given for every picture of the request, those of this batch."""
    given, seeds = run.request.image, run.request.seeds or ()
    if getattr(given, "ndim", 0) == 4 and given.shape[0] == len(seeds) != len(run.seeds):
        run.request = run.request.model_copy(update={"image": given[list(run.indices)]})


def _without(latents: Tensor, places: Sequence[int]) -> Tensor:
    """Latents with NaN in these places: what they would decode to is what a check has covered up."""
    if places:
        latents = latents.clone()
        latents[list(places)] = float("nan")
    return latents
