"""One small engine, and what every refusal must keep to: no computing, words that help, an engine as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import Field

from sdcore import Engine, Options, Plugin, Result, SchedulerSpec, SdcoreError, hookimpl
from sdcore.testing.tiny import tiny_folder

PLAIN: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "steps": 1, "height": 16, "width": 16}

Refused = Callable[..., str]


class Dial(Options):
    """Options with a range."""

    amount: float = Field(default=0.5, ge=0, le=1)
    label: str = "x"


class DialPlugin(Plugin):
    """Does nothing, and has options."""

    name = "dial"
    options = Dial

    @hookimpl
    def register(self, registry: Any) -> None:
        registry.add("scheduler", "crank", SchedulerSpec("diffusers.schedulers.scheduling_ddim:DDIMScheduler"))


class SwitchPlugin(Plugin):
    """Does nothing, and has no options."""

    name = "switch"


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """The names of the networks that were called, one for each call."""
    calls: list[str] = []
    model: Any = engine.model
    networks = {"unet": model.unet, "encoder": model.vae.encoder, "decoder": model.vae.decoder}
    networks |= {f"text {place}": module for place, module in enumerate(model.text_encoders)}
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for name, module in networks.items()
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def assert_same(one: Result, other: Result) -> None:
    assert torch.equal(one.latents, other.latents)
    assert [image.tobytes() for image in one.images] == [image.tobytes() for image in other.images]


@pytest.fixture
def same() -> Callable[[Result, Result], None]:
    return assert_same


@pytest.fixture(scope="session")
def folder() -> Path:
    return tiny_folder("sd1")


@pytest.fixture(scope="session")
def engine(folder: Path) -> Engine:
    return Engine.load(folder, plugins=[DialPlugin, SwitchPlugin], max_pixels=500_000)


@pytest.fixture(scope="session")
def before(engine: Engine) -> Result:
    with counted(engine) as calls:
        start = {"image": Image.new("RGB", (16, 16)), "strength": 1}
        engine.generate(**{**PLAIN, "prompt": "only here, so not encoded before", **start})
    assert {"unet", "encoder", "decoder", "text 0"} == set(calls)
    return engine.generate(**PLAIN)


@pytest.fixture
def unharmed(engine: Engine, before: Result) -> Callable[[], None]:
    """Checks that a plain run gives what it gave before anything went wrong."""
    return lambda: assert_same(before, engine.generate(**PLAIN))


@pytest.fixture
def refused(engine: Engine, unharmed: Callable[[], None]) -> Refused:
    """``refused(RequestError, "word", ..., steps=0)``: it is, before any network is called; gives the message."""

    def check(kind: type[SdcoreError], *words: str, **fields: Any) -> str:
        with counted(engine) as calls, pytest.raises(kind) as caught:
            engine.generate(**{**PLAIN, **fields})
        assert calls == []
        message = str(caught.value)
        for word in words:
            assert word in message
        assert len(message) < 1200
        unharmed()
        return message

    return check
