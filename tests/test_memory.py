"""How many pictures are made at a time. What happens in a run: tests/wrong_input/test_memory_runs_out.py."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdcore import GenerateRequest, OutOfMemoryError, memory
from sdcore.memory import MOST, batch_size, in_batches


def run(side: int = 512, dtype: torch.dtype = torch.float32, **fields: Any) -> Any:
    vae = SimpleNamespace(config=SimpleNamespace(block_out_channels=(128, 256)), dtype=dtype)
    return SimpleNamespace(
        request=GenerateRequest("a", **fields),
        height=side,
        width=side,
        device=torch.device("cpu"),
        model=SimpleNamespace(vae=vae),
    )


@pytest.mark.parametrize(
    ("free", "count", "expected"),
    [(2**40, 5, 5), (2**40, 100, MOST), (8 * 2**30, 100, 4), (2 * 2**30, 100, 1), (0, 100, 1), (2**40, 1, 1)],
)
def test_what_fits_into_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: int, count: int, expected: int
) -> None:
    monkeypatch.setattr(memory, "_free", lambda run: free)
    assert batch_size(run(), count) == expected


def test_smaller_pictures_and_numbers_fit_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda run: 8 * 2**30)
    assert batch_size(run(256), 100) == 16
    assert batch_size(run(1024), 100) == 1
    assert batch_size(run(dtype=torch.float16), 100) == 8


def test_the_request_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda run: 0)
    assert batch_size(run(batch_size=7), 100) == 7
    assert batch_size(run(batch_size=7), 3) == 3


def test_there_is_free_memory() -> None:
    assert memory._free(run()) > 2**20


def test_without_a_way_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "Path", lambda name: SimpleNamespace(read_text=lambda: ""))
    monkeypatch.delattr("os.sysconf", raising=False)
    assert memory._free(run()) == 4 * 2**30


class Work:
    """Takes so many at a time; remembers what it was asked."""

    def __init__(self, room: int, error: BaseException | None = None) -> None:
        self.room, self.error = room, error or MemoryError()
        self.asked: list[tuple[list[int], int, int]] = []
        self.warnings: list[str] = []

    def __call__(self, indices: Sequence[int], number: int, of: int) -> list[int]:
        self.asked.append((list(indices), number, of))
        if len(indices) > self.room:
            raise self.error
        return list(indices)

    def all(self, count: int, size: int) -> list[int]:
        done = in_batches(count, size, self, self.warnings.append, "pictures of 8x8")
        return [index for batch in done for index in batch]


def test_batches_are_counted() -> None:
    work = Work(3)
    assert work.all(7, 3) == list(range(7))
    assert work.asked == [([0, 1, 2], 1, 3), ([3, 4, 5], 2, 3), ([6], 3, 3)]
    assert work.warnings == []


def test_half_as_many_once() -> None:
    work = Work(3)
    assert work.all(7, 5) == list(range(7))
    assert work.asked == [([0, 1, 2, 3, 4], 1, 2), ([0, 1, 2], 1, 3), ([3, 4, 5], 2, 3), ([6], 3, 3)]
    assert work.warnings == ["5 pictures of 8x8 did not fit into memory together; going on with 3 at a time"]


@pytest.mark.parametrize(("room", "size", "tried"), [(1, 8, [8, 4]), (0, 2, [2, 1]), (0, 1, [1])])
def test_then_an_error(room: int, size: int, tried: list[int]) -> None:
    work = Work(room)
    with pytest.raises(OutOfMemoryError, match=f"pictures of 8x8, {tried[-1]} at a time, do not fit"):
        work.all(8, size)
    assert [len(indices) for indices, _, _ in work.asked] == tried


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("shape"), OutOfMemoryError("another engine's")])
def test_other_errors_pass(error: Exception) -> None:
    work = Work(0, error)
    with pytest.raises(type(error)) as caught:
        work.all(4, 2)
    assert caught.value is error
    assert len(work.asked) == 1
