"""Engines used from several threads, closed while they work, used when they are closed, used from inside."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdcore import Cancelled, Engine, Result, SdcoreError, resolve
from sdcore.events import Event, Finished, Started, Stepped

Same = Callable[[Result, Result], None]
RUN: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "steps": 2, "height": 16, "width": 16}


@pytest.fixture
def own(folder: Path) -> Iterator[Engine]:
    """An engine that a test may close."""
    with Engine.load(folder, plugins=()) as engine:
        yield engine


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    failed: list[BaseException] = []

    def carry_out() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            failed.append(error)

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    return thread, failed


def test_two_threads_take_turns(engine: Engine, same: Same) -> None:
    alone = [engine.generate(**{**RUN, "seed": seed}) for seed in range(4)]
    together: dict[int, Result] = {}
    running: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, Started):
            running.append(1)
            assert len(running) == 1
        elif isinstance(event, Finished):
            running.pop()

    def work(seed: int) -> None:
        together[seed] = engine.generate(**{**RUN, "seed": seed}, on_event=watch)

    threads = [in_thread(lambda seed=seed: work(seed)) for seed in range(4)]  # type: ignore[misc]
    for thread, failed in threads:
        thread.join(60)
        assert failed == []
    for seed in range(4):
        same(together[seed], alone[seed])


def test_engines_around_the_same_networks_take_turns_too(engine: Engine) -> None:
    other = Engine(engine.model, plugins=())
    inside, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        inside.set()
        assert go_on.wait(60)

    first, failed = in_thread(lambda: engine.generate(**RUN, on_event=hold))
    assert inside.wait(60)
    second, failed_too = in_thread(lambda: other.generate(**RUN))
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    first.join(60)
    second.join(60)
    assert failed == failed_too == []


def test_closing_during_a_run(own: Engine) -> None:
    stepped, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        if isinstance(event, Stepped):
            stepped.set()
            assert go_on.wait(60)

    run, failed = in_thread(lambda: own.generate(**{**RUN, "steps": 8}, on_event=hold))
    assert stepped.wait(60)
    waiting, also_failed = in_thread(lambda: own.generate(**RUN))
    closing, close_failed = in_thread(own.close)
    closing.join(0.2)
    assert closing.is_alive()  # it waits for the run, which ends before its next U-Net call
    go_on.set()
    for thread in (run, closing, waiting):
        thread.join(60)
    assert close_failed == []
    assert [type(error) for error in failed] == [Cancelled]
    assert [isinstance(error, SdcoreError) for error in also_failed] == [True]
    assert repr(own) == "<Engine closed>"


def test_closing_from_inside_a_run(own: Engine) -> None:
    with pytest.raises(Cancelled):
        own.generate(**RUN, on_event=lambda event: own.close())
    assert repr(own) == "<Engine closed>"


def test_closing_just_before_a_run_has_its_turn(own: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too late to be cancelled, too early to hold the networks."""

    def complete(*args: Any) -> Any:
        thread, failed = in_thread(own._let_go)
        thread.join(60)
        assert failed == []
        return resolve.complete(*args)

    monkeypatch.setattr("sdcore.engine.complete", complete)
    with pytest.raises(SdcoreError, match="closed"):
        own.generate(**RUN)


def test_use_after_close(own: Engine) -> None:
    own.close()
    own.close()
    own.cancel()
    for use in (own.generate, own.explain, lambda **fields: own.stream(**fields).result()):
        with pytest.raises(SdcoreError, match=r"closed; load another"):
            use(**RUN)
    with pytest.raises(SdcoreError, match="closed"):
        _ = own.model
    assert own.to_json("a") == '{"prompt": "a"}'


def test_a_closed_engine_lets_go_of_the_model(own: Engine) -> None:
    own.generate(**RUN)
    unet = weakref.ref(own.model.unet)
    own.close()
    gc.collect()
    assert unet() is None


def test_a_result_outlives_its_engine(own: Engine, tmp_path: Path) -> None:
    result = own.generate(**RUN)
    own.close()
    (path,) = result.save(tmp_path / "a.png")
    assert path.stat().st_size > 0


def test_a_run_from_inside_a_run(engine: Engine, unharmed: Callable[[], None]) -> None:
    """Weights and sites are changed while a run lasts; another in the middle of it would see them changed."""
    for ask in (engine.generate, engine.explain):
        with pytest.raises(SdcoreError, match=r"middle of a run.*ask when the run has ended"):
            engine.generate(**RUN, on_event=lambda event, ask=ask: ask(**RUN))  # type: ignore[misc]
        unharmed()


def test_another_engine_from_inside_a_run(engine: Engine, folder: Path, same: Same) -> None:
    """As for a refiner, also if it shares parts with the first."""
    other = Engine.load(folder, plugins=(), components={"vae": engine.model.vae})
    inner: list[Result] = []
    outer = engine.generate(**RUN, on_event=lambda event: inner.append(other.generate(**RUN)))
    for result in inner:
        same(result, outer)


def test_an_observer_that_fails(engine: Engine, unharmed: Callable[[], None]) -> None:
    for kind in (Started, Stepped, Finished):

        def fail(event: Event, kind: type[Event] = kind) -> None:
            if isinstance(event, kind):
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            engine.generate(**RUN, on_event=fail)
        unharmed()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt(engine: Engine, error: type[BaseException], unharmed: Callable[[], None]) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Stepped):
            raise error

    with pytest.raises(error):
        engine.generate(**RUN, on_event=interrupt)
    unharmed()


@pytest.mark.parametrize("how", ["engine", "run"])
@pytest.mark.parametrize("at", [Started, Stepped])
def test_cancelling_from_another_thread(
    engine: Engine, how: str, at: type[Event], unharmed: Callable[[], None]
) -> None:
    steps = 0

    def cancel(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, Stepped)
        if isinstance(event, at) and steps <= 1:
            thread, failed = in_thread(engine.cancel if how == "engine" else event.run.cancel)
            thread.join(60)
            assert failed == []

    with pytest.raises(Cancelled, match="cancelled"):
        engine.generate(**{**RUN, "steps": 8}, on_event=cancel)
    assert steps == (at is Stepped)  # it stopped before the next U-Net call
    unharmed()


def test_cancelling_what_waits_for_its_turn(engine: Engine, unharmed: Callable[[], None]) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        inside.set()
        assert go_on.wait(60)

    first, failed = in_thread(lambda: engine.generate(**RUN, on_event=hold))
    assert inside.wait(60)
    stream = engine.stream(**RUN)
    stream.cancel()
    go_on.set()
    with pytest.raises(Cancelled):
        stream.result()
    first.join(60)
    assert failed == []
    unharmed()


def test_leaving_a_stream_early(engine: Engine, unharmed: Callable[[], None]) -> None:
    stream = engine.stream(**{**RUN, "steps": 50})
    for event in stream:
        if isinstance(event, Stepped):
            break
    with pytest.raises(Cancelled):
        stream.result()
    unharmed()
