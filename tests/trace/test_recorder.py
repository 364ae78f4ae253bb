"""Whose time and memory is whose: nested calls, work that is apart, exceptions, a device that knows peaks."""

from __future__ import annotations

import pytest

from sdcore.trace.memory import CudaMemory, Memory, memory_of
from sdcore.trace.recorder import Place, Recorder


class Device(Memory):
    """A device whose memory is set by hand."""

    has_peak = True

    def __init__(self) -> None:
        self.used = self.most = 0

    def now(self) -> int:
        return self.used

    def take_peak(self) -> int:
        peak, self.most = self.most, self.used
        return peak

    def allocate(self, size: int) -> None:
        self.used += size
        self.most = max(self.most, self.used)


def place(name: str) -> Place:
    return Place(name, "1", "step.port", "chain", None, "f", 1)


def test_memory_is_each_ones_own_and_a_peak_holds_what_is_inside() -> None:
    device = Device()
    recorder = Recorder(device)
    with recorder.timed(place("outer"), 0):
        device.allocate(10)
        with recorder.apart(), recorder.timed(place("inner"), 0):
            device.allocate(100)
            device.allocate(-70)
        device.allocate(5)
    rows = {row.plugin: row for row in recorder.rows()}
    assert (rows["inner"].memory, rows["inner"].peak) == (30, 100)
    assert (rows["outer"].memory, rows["outer"].peak) == (15, 110)


def test_what_is_apart_is_not_counted_twice() -> None:
    device = Device()
    recorder = Recorder(device)
    with recorder.timed(place("outer"), 0):
        with recorder.timed(place("inner"), 0):
            device.allocate(3)
        with recorder.apart():
            device.allocate(1000)
    rows = {row.plugin: row for row in recorder.rows()}
    assert (rows["outer"].memory, rows["inner"].memory) == (0, 3)
    assert all(row.seconds >= 0 for row in rows.values())


def test_what_an_exception_left_open_is_closed_with_what_is_outside() -> None:
    recorder = Recorder(Device())
    with recorder.timed(place("outer"), 0):
        lost = recorder.push(place("lost"), 0)
    recorder.pop(lost)
    assert [row.plugin for row in recorder.rows()] == ["outer"]
    with pytest.raises(ZeroDivisionError), recorder.timed(place("bad"), 0):
        raise ZeroDivisionError
    assert [row.calls for row in recorder.rows()] == [1, 1]


def test_the_process_tells_its_memory_and_no_peak() -> None:
    memory = memory_of("cpu")
    assert not isinstance(memory, CudaMemory)
    assert not memory.has_peak
    now = memory.now()
    assert now is None or now > 1 << 20
