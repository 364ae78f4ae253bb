"""Checks that a plugin keeps to itself: random states, weights, classes, memory, threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdcore import ports
from sdcore.events import Event, Started
from sdcore.plugin import Plugin, hookimpl
from sdcore.ports import Contributions

from .catalogue import check
from .comparing import same
from .effect import EVERY_TIER
from .outcome import Failed, NotApplicable
from .setting import fingerprint
from .subject import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.run import Run
    from sdcore.stages import Step

WAIT = 20.0
"""Seconds that a run waits for another one to start; it goes on alone if that one waits for it."""


class Stumbling(Plugin):
    """Fails at the end of the second step: what went before must be undone by everybody."""

    name = "conformance-fault"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Raise behind all others."""

        def fail(step: Step, latents: Tensor) -> None:
            if step.index == 1:
                raise ZeroDivisionError("a fault, on purpose")

        return ports.latents_out(fail, after=[name for name in run.plugins if name != self.name])


@check(
    8,
    "randomness",
    "it draws from the request's generators, and leaves global ones and settings of the process alone",
    everywhere=True,
    tiers=EVERY_TIER,
    needs=("effect",),
)
def randomness(trial: Trial) -> None:
    """The states of Python's, numpy's and torch's generators are the same before and after the first run."""
    watched = trial.watched
    if watched.random:
        raise Failed(
            f"the global generator of {' and '.join(watched.random)} was used; draw from run.generators, one a picture"
        )
    if watched.settings:
        raise Failed(f"the first run changed settings of the process: {'; '.join(watched.settings)}")


@check(9, "threads", "runs in several threads are what they are alone", needs=("order",))
def threads(trial: Trial) -> None:
    """Two requests at once on one engine; and on two engines, each having started before either makes a step."""
    from sdcore.engine import Engine

    second: dict[str, Any] = {
        "seed": 22,
        "prompt": f"{trial.request()['prompt']} and the blue house",
        "guidance_scale": 5.0,
    }
    alone = [trial.first, trial.run(**second)]
    together = _at_once([trial.run, lambda: trial.run(**second)])
    for expected, found in zip(alone, together, strict=True):
        same(expected, found, "in two threads on one engine, a request gave something else than alone")
    # Of models of their own, as engines that share one take turns. A class that keeps a run's values is found out
    # when both runs have called their hooks before either has made a step.
    barrier = threading.Barrier(2)

    def meet(event: Event) -> None:
        if isinstance(event, Started) and not barrier.broken:
            try:
                barrier.wait(WAIT)
            except threading.BrokenBarrierError:
                return

    twin = Engine(trial.setting.load("float32", 1), plugins=[trial.subject.chosen])
    both = _at_once([lambda: trial.run(on_event=meet), lambda: trial.run(on=twin, on_event=meet, **second)])
    for expected, found in zip(alone, both, strict=True):
        same(expected, found, "while another engine ran, a request gave something else than alone")


def _at_once(runs: Sequence[Any]) -> list[Any]:
    found: list[Any] = [None] * len(runs)

    def carry_out(place: int) -> None:
        try:
            found[place] = runs[place]()
        except Exception as error:  # noqa: BLE001 - raised in the thread that asked
            found[place] = error

    workers = [threading.Thread(target=carry_out, args=(place,)) for place in range(len(runs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for item in found:
        if isinstance(item, Exception):
            raise item
    return found


@check(
    10,
    "weights",
    "the model is as it was: weights, modules, and what is attached to them",
    everywhere=True,
    tiers=EVERY_TIER,
    needs=("effect",),
)
def weights(trial: Trial) -> None:
    """After a run, after an error in the middle of one, and after the engine is closed."""
    if trial.watched.model:
        raise Failed("after a run, a weight, a module or a hook on one is not what it was")
    if trial.subject.tier != "cpu" or trial.subject.settings[0] is not trial.setting:
        return
    before = fingerprint(trial.setting.model)
    engine = trial.subject.engine(trial.setting, Stumbling)
    _stumble(trial, engine)
    _same_model(trial, before, "after an error in the middle of a run")
    engine.close()
    _same_model(trial, before, "after the engine was closed")


def _stumble(trial: Trial, engine: Any) -> None:
    from sdcore.errors import PluginError

    try:
        trial.run(on=engine, use=[trial.use(), Stumbling.name])
    except PluginError as error:
        if error.plugin == Stumbling.name:
            return
        raise
    raise NotApplicable("the plugin makes runs of less than two steps")


def _same_model(trial: Trial, before: str, when: str) -> None:
    if fingerprint(trial.setting.model) != before:
        trial.setting.renew()
        raise Failed(f"{when}, a weight, a module or a hook on one is not what it was")


@check(15, "memory", "nothing piles up from run to run", needs=("same-seed",))
def memory(trial: Trial) -> None:
    """Another run of the same request leaves no more tensors and pictures behind than the one before."""
    _ = trial.first
    gc.freeze()  # what is there already: it is many objects, and looking through them takes seconds
    try:
        trial.run()
        once = _held()
        trial.run()
        more = _held() - once
    finally:
        gc.unfreeze()
    if more > 0:
        raise Failed(f"after one more run of the same request, {more} more tensors and pictures are in memory")


def _held() -> int:
    """Tensors and pictures that were made since the collector was frozen, and are still there."""
    import torch
    from PIL.Image import Image

    gc.collect()
    return sum(issubclass(type(found), torch.Tensor | Image) for found in gc.get_objects())


@check(20, "eject", "without it, everything is as if it had never been", needs=("weights",))
def eject(trial: Trial) -> None:
    """No class that others share is changed, and an engine without it draws what it drew before."""
    trial.plain()
    if trial.watched.patches:
        raise Failed(f"shared classes were changed: {', '.join(trial.watched.patches)}; use the ports instead")
    from sdcore.engine import Engine

    plain = Engine(trial.setting.model, plugins=[]).generate(**trial.request())
    same(trial.plain(), plain, "an engine without the plugin draws something else than before it was used")
