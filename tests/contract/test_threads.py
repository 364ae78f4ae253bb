"""Threads and engines: runs on one model take turns, and share nothing but it."""

from __future__ import annotations

import threading
from typing import Any

import torch

from sdcore import Engine, Options, Plugin, Result, Run, StateKey, WeightPatch, hookimpl, ports
from sdcore.ports import Contributions
from sdcore.testing.tiny import tiny_folder

from .kit import REQUEST, fingerprint, model, same_pictures


class Shift(Options):
    amount: float


AMOUNT: StateKey[float] = StateKey("amount")


class ShiftPlugin(Plugin):
    """Changes weights, keeps something of the run, and looks at it in every step."""

    name = "shift"
    options = Shift

    @hookimpl
    def weights(self, run: Run) -> Contributions:
        (shift,) = run.uses(Shift)
        run.state[AMOUNT] = shift.amount
        return ports.weights(WeightPatch("unet", "conv_out.bias", lambda w: torch.full_like(w, shift.amount)))

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def look(step: Any, latents: Any) -> None:
            (shift,) = step.run.uses(Shift)
            assert step.run.state[AMOUNT] == shift.amount

        return ports.latents_in(look)


def in_threads(*work: Any) -> list[Result]:
    found: dict[int, Any] = {}

    def carry_out(number: int) -> None:
        try:
            found[number] = work[number]()
        except BaseException as error:  # noqa: BLE001 - raised below
            found[number] = error

    threads = [threading.Thread(target=carry_out, args=(number,), daemon=True) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "a thread waits for ever"
    for result in found.values():
        if isinstance(result, BaseException):
            raise result
    return [found[number] for number in range(len(work))]


def requests() -> list[dict[str, Any]]:
    shifts: list[list[Options]] = [[Shift(amount=0.1)], [Shift(amount=0.5)], [], [Shift(amount=-0.3)]]
    words = ("a red apple", "a cat", "a dog", "a house")
    return [
        {**REQUEST, "prompt": p, "seed": i, "use": use} for i, (p, use) in enumerate(zip(words, shifts, strict=True))
    ]


def test_four_threads_on_one_engine_give_what_four_runs_give() -> None:
    engine = Engine(model(), plugins=[ShiftPlugin])
    before = fingerprint(engine.model)
    one_by_one = [engine.generate(**request) for request in requests()]
    together = in_threads(*(lambda request=request: engine.generate(**request) for request in requests()))
    assert all(same_pictures(one, other) for one, other in zip(one_by_one, together, strict=True))
    assert not same_pictures(one_by_one[0], one_by_one[1])
    assert fingerprint(engine.model) == before


def test_two_engines_around_one_pipeline_take_turns() -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder("sd1"))
    engines = [Engine.from_pipeline(pipe, plugins=[ShiftPlugin]) for _ in range(2)]
    before = fingerprint(engines[0].model)
    one_by_one = [engines[0].generate(**request) for request in requests()]
    together = in_threads(
        *(lambda i=i, request=request: engines[i % 2].generate(**request) for i, request in enumerate(requests()))
    )
    assert all(same_pictures(one, other) for one, other in zip(one_by_one, together, strict=True))
    assert fingerprint(engines[1].model) == before


def test_engines_with_other_policies_on_one_model_take_turns() -> None:
    first = Engine(model(), plugins=[])
    policed = Engine(first.model, plugins=[ShiftPlugin], always=[Shift(amount=0.3)])
    plain = {**REQUEST, "prompt": "a red apple"}
    one_by_one = [engine.generate(**plain) for engine in (first, policed)]
    together = in_threads(*(lambda engine=engine: engine.generate(**plain) for engine in (first, policed)))
    assert all(same_pictures(one, other) for one, other in zip(one_by_one, together, strict=True))
    assert policed.model is first.model
    assert [use["plugin"] for use in one_by_one[1].record.request["use"]] == ["shift"]
    policed.close()
    assert same_pictures(first.generate(**plain), one_by_one[0])


def test_two_engines_share_nothing() -> None:
    one, two = (Engine(model(), plugins=[ShiftPlugin]) for _ in range(2))
    assert one.host.plugin("shift") is not two.host.plugin("shift")
    assert one.host.registry is not two.host.registry


def test_every_run_has_a_state_of_its_own() -> None:
    states: list[Any] = []

    class Look(Plugin):
        name = "look"

        @hookimpl
        def text(self, run: Run) -> Contributions:
            states.append(run.state)
            return None

    engine = Engine(model(), plugins=[Look])
    for _ in range(2):
        engine.generate(use=["look"], **REQUEST)
    in_threads(*(lambda: engine.generate(use=["look"], **REQUEST) for _ in range(2)))
    assert len({id(state) for state in states}) == len(states) >= 4
