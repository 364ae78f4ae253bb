from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageDraw
from sdcore_inpaint import InpaintPlugin, OutpaintPlugin
from transformers.utils import logging as transformers_logging

from sdcore import Contributions, Engine, Plugin, Run, hookimpl, ports
from sdcore.testing.parity import Recorder
from sdcore.testing.tiny import tiny_folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    yield
    diffusers_logging.set_verbosity(before[0])
    transformers_logging.set_verbosity(before[1])
    diffusers_logging.enable_progress_bar()
    transformers_logging.enable_progress_bar()


class Spy(Plugin):
    """Looks on: what is encoded, which windows and sizes are drawn, what previews see, what the scheduler made."""

    name = "spy"

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.purposes: list[str] = []
        self.requests: list[Any] = []
        self.previews: list[Any] = []
        self.scheduled: list[Any] = []
        self.states: list[Any] = []
        self.runs: list[Run] = []

    @hookimpl
    def latents(self, run: Run) -> Contributions:
        def encode(args: Any, call_next: Any) -> Any:
            self.purposes.append(args.purpose)
            return call_next(args)

        return ports.encode_image(encode)

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def enter(step: Any, latents: Any) -> None:
            if step.index == 0:
                self.requests.append(run.request)
                self.states.append([generator.get_state() for generator in run.generators])
                self.runs.append(run)

        def update(args: Any, call_next: Any) -> Any:
            self.scheduled.append(call_next(args))
            return self.scheduled[-1]

        return [ports.latents_in(enter), ports.scheduler_step(update)]

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        return ports.judge_preview(lambda step, x0: self.previews.append(x0.clone()))


class HiresFix(Plugin):
    """Two passes: the second on the first one's latents, twice as large."""

    name = "hires"

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        import torch

        def twice(request: Any, call_next: Any) -> Any:
            first = call_next(request)
            larger = torch.nn.functional.interpolate(first.latents, scale_factor=2)
            width, height = request.width * 2, request.height * 2
            return call_next(request.replace(image=larger, width=width, height=height, strength=0.5))

        return ports.whole_run(twice)


@functools.cache
def _engine(family: str, channels: int) -> Engine:
    folder = tiny_folder(family, in_channels=channels)
    plugins = [Recorder, Spy, HiresFix, InpaintPlugin, OutpaintPlugin]
    return Engine.load(folder, plugins=plugins, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def engine_of() -> Callable[..., Engine]:
    """``engine_of(family, channels)``: a tiny model with the plugins and three that look on."""

    def make(family: str = "sd1", channels: int = 4) -> Engine:
        made = _engine(family, channels)
        made.host.plugin("spy").clear()  # type: ignore[attr-defined]
        return made

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], Image.Image]:
    """``picture(width, height)``: edges and gradients."""

    @functools.cache
    def make(width: int, height: int) -> Image.Image:
        pixels = Image.new("RGB", (width, height))
        for x in range(width):
            for y in range(height):
                pixels.putpixel((x, y), (x * 255 // width, y * 255 // height, 255 * ((x // 5 + y // 7) % 2)))
        return pixels

    return make


@pytest.fixture(scope="session")
def blob() -> Callable[..., Image.Image]:
    """``blob(width, height, box)``: a mask with a white ellipse."""

    def make(width: int, height: int, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).ellipse(box or (width * 0.2, height * 0.3, width * 0.7, height * 0.8), fill=255)
        return mask

    return make


@pytest.fixture(scope="session")
def mini() -> Engine:
    """The embedded model."""
    return Engine.load(plugins=[InpaintPlugin, OutpaintPlugin], device="cpu", dtype="float32")
