"""Streams: events while a run goes on in a thread, cancelling, errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sdcore.engine import Engine
from sdcore.errors import Cancelled, PluginError, RequestError
from sdcore.events import Finished, Started, Stepped
from sdcore.plugin import Plugin, hookimpl
from sdcore.ports import Contributions, latents_out
from sdcore.run import Run
from sdcore.stages import Step
from sdcore.testing.tiny import tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, with NumPy 2


class Failing(Plugin):
    name = "failing"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def fail(step: Step, latents: object) -> None:
            if step.index == 1:
                raise ValueError("no more")

        return latents_out(fail)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(str(tiny_folder("sd1")), plugins=[Failing]) as engine:
        yield engine


@pytest.fixture
def calls(engine: Engine) -> Iterator[list[int]]:
    """Grows by one with every call of the U-Net."""
    calls: list[int] = []
    handle = engine.model.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


FIELDS = {"prompt": "a cat", "seed": 3, "steps": 6, "scheduler": "euler"}


def test_events_in_order(engine: Engine) -> None:
    stream = engine.stream(**FIELDS, count=2, batch_size=1)
    events = list(stream)
    kinds = [type(event) for event in events]
    assert kinds == [*([Started, *[Stepped] * 6] * 2), Finished]
    assert [(e.batch, e.batches, e.steps) for e in events if isinstance(e, Started)] == [(1, 2, 6), (2, 2, 6)]
    assert [e.step.index for e in events if isinstance(e, Stepped)] == [*range(6), *range(6)]
    (finished,) = [event for event in events if isinstance(event, Finished)]
    assert stream.result() is finished.result
    assert list(stream) == []  # a second loop ends
    assert stream.result() is finished.result


def test_the_same_as_generate(engine: Engine) -> None:
    result = engine.stream(**FIELDS).result()
    assert result.image.tobytes() == engine.generate(**FIELDS).image.tobytes()


def test_wrong_fields_are_an_error_at_once(engine: Engine) -> None:
    with pytest.raises(RequestError, match="there is no field 'stepz'"):
        engine.stream("a cat", stepz=3)


def test_errors_come_out_of_the_loop_and_of_result(engine: Engine) -> None:
    stream = engine.stream(**FIELDS, use=["failing"])
    seen: list[object] = []
    with pytest.raises(PluginError, match="ValueError: no more"):
        seen.extend(stream)
    assert [type(event) for event in seen] == [Started, Stepped]
    with pytest.raises(PluginError, match="no more"):
        stream.result()
    with pytest.raises(PluginError, match="no more"):
        list(stream)


def test_leaving_the_loop_cancels(engine: Engine, calls: list[int]) -> None:
    expected = engine.generate(**FIELDS).latents
    calls.clear()
    stream = engine.stream(**{**FIELDS, "steps": 500})
    for event in stream:
        if isinstance(event, Stepped) and event.step.index == 2:
            break
    with pytest.raises(Cancelled):
        stream.result()
    assert 3 <= len(calls) < 100
    with pytest.raises(Cancelled):
        list(stream)
    assert engine.generate(**FIELDS).latents.equal(expected)


def test_an_exception_in_the_loop_cancels(engine: Engine) -> None:
    stream = engine.stream(**{**FIELDS, "steps": 500})

    def interrupted() -> None:
        for _ in stream:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(Cancelled):
        stream.result()


@pytest.mark.parametrize("by", ["stream", "run", "engine"])
def test_cancelling_from_another_thread_stops_before_the_next_call(engine: Engine, calls: list[int], by: str) -> None:
    expected = engine.generate(**FIELDS)
    calls.clear()
    arrived, go_on = threading.Event(), threading.Event()
    runs: list[Run] = []

    def wait(event: object) -> None:
        if isinstance(event, Stepped) and event.step.index == 1:
            runs.append(event.run)
            arrived.set()
            assert go_on.wait(30)

    errors: list[BaseException] = []

    def draw() -> None:
        try:
            engine.generate(**FIELDS, on_event=wait)
        except Cancelled as error:
            errors.append(error)

    if by == "stream":  # its events do not wait for their reader, so the U-Net is stopped instead
        handle = engine.model.unet.register_forward_hook(
            lambda *_: (arrived.set(), go_on.wait(30), None)[-1] if len(calls) == 2 else None
        )
        stream = engine.stream(**FIELDS)
        assert arrived.wait(30)
        stream.cancel()
        go_on.set()
        with pytest.raises(Cancelled):
            stream.result()
        handle.remove()
    else:
        thread = threading.Thread(target=draw)
        thread.start()
        assert arrived.wait(30)
        runs[0].cancel() if by == "run" else engine.cancel()
        go_on.set()
        thread.join()
        assert len(errors) == 1
    assert len(calls) == 2
    again = engine.generate(**FIELDS)
    assert again.latents.equal(expected.latents)
    assert again.image.tobytes() == expected.image.tobytes()


def test_a_run_that_is_over_is_not_called_cancelled(engine: Engine) -> None:
    stream = engine.stream(**FIELDS)
    runs = [event.run for event in stream]
    assert not any(run.cancelled for run in runs)


def test_closing_the_engine_cancels_its_streams() -> None:
    engine = Engine.load(str(tiny_folder("sd1")), plugins=())
    stream = engine.stream(**{**FIELDS, "steps": 900})
    next(event for event in stream if isinstance(event, Stepped))
    engine.close()
    with pytest.raises(Cancelled):
        stream.result()


def test_previews_belong_to_their_step(engine: Engine) -> None:
    """Also when they are asked for late, while the run goes on in its thread, or after its end."""
    live: list[bytes] = []
    engine.generate(
        **FIELDS, on_event=lambda e: live.append(e.preview()[0].tobytes()) if isinstance(e, Stepped) else None
    )
    stream = engine.stream(**FIELDS)
    stream.result()
    late = [event.preview()[0].tobytes() for event in stream if isinstance(event, Stepped)]
    assert len(set(live)) == 6
    assert late == live
