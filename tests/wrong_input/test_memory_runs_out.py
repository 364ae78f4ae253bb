"""Memory that runs out in the middle of a batch: once more with half as many, then a clear error."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from sdcore import Engine, OutOfMemoryError, Result
from sdcore.events import Started, Warned

Same = Callable[[Result, Result], None]
FOUR: dict[str, Any] = {"prompt": "a red apple", "seed": 5, "count": 4, "steps": 2, "height": 16, "width": 16}
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    MemoryError(),
]


@contextmanager
def room_for(module: torch.nn.Module, rows: int, error: BaseException) -> Iterator[list[int]]:
    """A network that takes only so many rows at a time; gives the sizes that were tried."""
    tried: list[int] = []

    def check(_: object, given: tuple[torch.Tensor, ...]) -> None:
        tried.append(len(given[0]))
        if len(given[0]) > rows:
            raise error

    hook = module.register_forward_pre_hook(check)
    try:
        yield tried
    finally:
        hook.remove()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("part", ["unet", "decoder"])
def test_half_as_many_are_tried(
    engine: Engine, part: str, error: BaseException, same: Same, unharmed: Callable[[], None]
) -> None:
    module: Any = engine.model.unet if part == "unet" else engine.model.vae.decoder
    wanted = engine.generate(**FOUR, batch_size=2)
    events: list[Any] = []
    with room_for(module, 4 if part == "unet" else 2, error):  # the U-Net sees two branches of every picture
        result = engine.generate(**FOUR, on_event=events.append)
    same(result, wanted)
    assert result.seeds == [5, 6, 7, 8]
    assert [(e.batch, e.batches) for e in events if isinstance(e, Started)] == [(1, 1), (1, 2), (2, 2)]
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert "4 pictures of 16x16 did not fit into memory together; going on with 2" in warning
    unharmed()


@pytest.mark.parametrize("error", ERRORS)
def test_after_half_as_many_comes_a_clear_error(
    engine: Engine, error: BaseException, unharmed: Callable[[], None]
) -> None:
    with room_for(engine.model.unet, 2, error) as tried, pytest.raises(OutOfMemoryError) as caught:
        engine.generate(**FOUR)
    assert tried == [8, 4]  # once, not down to one
    for words in ("pictures of 16x16, 2 at a time", "smaller size", "batch_size=1", "half precision"):
        assert words in str(caught.value)
    unharmed()


def test_one_picture_is_not_tried_again(engine: Engine, unharmed: Callable[[], None]) -> None:
    with (
        room_for(engine.model.unet, 1, ERRORS[0]) as tried,
        pytest.raises(OutOfMemoryError, match="16x16, 1 at a time"),
    ):
        engine.generate(**{**FOUR, "count": 1})
    assert tried == [2]
    unharmed()


def test_a_later_batch(engine: Engine) -> None:
    """What is done stays done: only the batch that did not fit is made again."""
    calls: list[int] = []

    def second_fails(_: object, given: tuple[torch.Tensor, ...]) -> None:
        calls.append(len(given[0]))
        if calls == [2, 2]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    wanted = engine.generate(**FOUR, batch_size=2)
    hook = engine.model.vae.decoder.register_forward_pre_hook(second_fails)
    try:
        result = engine.generate(**FOUR, batch_size=2)
    finally:
        hook.remove()
    assert calls == [2, 2, 1, 1]
    assert result.seeds == [5, 6, 7, 8]
    assert torch.equal(result.latents[:2], wanted.latents[:2])
    assert torch.allclose(result.latents, wanted.latents, atol=1e-3)


def test_the_smaller_batch_finds_the_memory_free(engine: Engine) -> None:
    """The frames of the error held the tensors that did not fit."""
    held: list[weakref.ref[torch.Tensor]] = []

    def remember(_: object, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > 4:
            held.append(weakref.ref(given[0]))
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            except RuntimeError as error:
                kept = error  # in a frame that the error itself keeps: only clearing that breaks the circle
                raise kept from None
        assert held
        assert held[0]() is None

    hook = engine.model.unet.register_forward_pre_hook(remember)
    try:
        engine.generate(**FOUR)
    finally:
        hook.remove()
