"""What stages of whole_run tell the passes that they start: the window, values of their own, warnings, their order."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from sdcore import Change, Engine, GenerateRequest, PluginError, RequestError, StateKey, ports
from sdcore.events import Warned
from sdcore.images import cut_window

from .kit import REQUEST, generate, model, plugin, same_pictures, watched

NOTE: StateKey[str] = StateKey("note")


def test_a_pass_knows_the_run_that_it_belongs_to() -> None:
    seen: list[tuple[Any, Any]] = []

    def hook(run: Any) -> Any:
        def twice(request: Any, call_next: Any) -> Any:
            for note in ("first", "second"):
                run.state[NOTE] = note
                output = call_next(request.replace(window=(0, 0, 0.5, 1)))
            return output

        return ports.whole_run(twice)

    def latents(run: Any) -> Any:
        def note(initial: Any) -> None:
            seen.append((run.request.window, (run.outer or run).state[NOTE]))

        return ports.initial_latents(note)

    generate(plugin("a", whole_run=hook, latents=latents))
    assert seen == [((0, 0, 0.5, 1), "first"), ((0, 0, 0.5, 1), "second")]


def test_the_outermost_run_has_no_outer() -> None:
    outer: list[Any] = []
    generate(plugin("a", text=lambda run: outer.append(run.outer)))
    assert outer == [None]


@pytest.mark.parametrize("use", [("hires", "crop"), ("crop", "hires")])
def test_the_canvas_is_outside_of_the_passes_whatever_the_order_of_use(use: tuple[str, str]) -> None:
    log: list[str] = []

    def noting(name: str, phase: str | None) -> Any:
        def around(request: Any, call_next: Any) -> Any:
            log.append(name)
            return call_next(request)

        return plugin(name, whole_run=lambda run: ports.whole_run(around, phase=phase))

    plugins = {"crop": noting("crop", "canvas"), "hires": noting("hires", None)}
    generate(*(plugins[name] for name in use))
    assert log == ["crop", "hires"]


def test_a_window_changes_nothing_by_itself() -> None:
    assert same_pictures(generate(window=(0.25, 0, 0.75, 1)), generate())


@pytest.mark.parametrize(
    ("fields", "canvas"),
    [
        ({}, (32, 32)),
        ({"window": (0.5, 0, 1, 0.25)}, (128, 64)),
        ({"window": (0.5, 0, 1, 0.25), "canvas_size": (101, 67)}, (101, 67)),
    ],
)
def test_the_canvas_is_the_whole_that_the_window_is_a_part_of(fields: Any, canvas: tuple[int, int]) -> None:
    seen: list[Any] = []
    generate(plugin("a", text=lambda run: seen.append(run.canvas)), **fields)
    assert seen == [canvas]


def test_a_plugin_says_in_plan_how_large_the_canvas_is() -> None:
    seen: list[Any] = []
    grow = plugin("grow", plan=lambda run: Change(canvas_size=(48, 100)))
    result = generate(plugin("a", text=lambda run: seen.append(run.canvas)), grow)
    assert seen == [(48, 100)]
    assert same_pictures(result, generate())


def test_a_canvas_beyond_the_limit_of_the_application_is_refused_before_the_run() -> None:
    """Else a picture could leave that is larger than max_pixels, drawn in small rounds."""
    grow = plugin("grow", plan=lambda run: Change(canvas_size=(64, 100)))
    with Engine(model(), plugins=[grow], max_pixels=6399) as engine, watched() as calls:
        with pytest.raises(RequestError, match=r"100x64 is 6,400 pixels, the limit is 6,399"):
            engine.generate(**REQUEST, use=["grow"])
        assert not calls
        engine.generate(**REQUEST)


@pytest.mark.parametrize("window", [(0.5, 0, 0.5, 1), (0, 0.9, 1, 0.1), (0, 0, 1.5, 1), (0, 0, 1), (-0.1, 0, 1, 1)])
def test_a_window_must_be_a_part_of_the_picture(window: Any) -> None:
    with pytest.raises(RequestError, match="window"):
        GenerateRequest(window=window)


@pytest.mark.parametrize("size", [(64, 48), (1000, 667), (3, 3)])
def test_what_belongs_to_the_whole_is_cut_to_whole_pixels(size: tuple[int, int]) -> None:
    image = Image.linear_gradient("L").resize(size)
    assert cut_window(image, None) is image
    box = (size[0] // 3, 0, size[0], size[1] // 2)
    window = (box[0] / size[0], 0.0, 1.0, box[3] / size[1])
    assert cut_window(image, window).tobytes() == image.crop(box).tobytes()
    assert cut_window(image, (0.999, 0.999, 1.0, 1.0)).size == (1, 1)


def test_a_warning_of_a_plugin_reaches_whoever_watches_once() -> None:
    told: list[Any] = []

    def hook(run: Any) -> Any:
        run.warn("two keys of the file were not used")
        return ports.latents_out(lambda step, latents: run.warn(f"step {step.index}"))

    def watch(event: Any) -> None:
        if isinstance(event, Warned):
            told.append(event.message)

    generate(plugin("a", step=hook), count=2, batch_size=1, on_event=watch)
    assert told == ["two keys of the file were not used", "step 0", "step 1"]


def test_a_pass_cannot_be_given_a_broken_window() -> None:
    def narrow(request: Any, call_next: Any) -> Any:
        return call_next(request.replace(window=(1, 0, 0, 1)))

    with pytest.raises(PluginError, match="window") as caught:
        generate(plugin("a", whole_run=lambda run: ports.whole_run(narrow)))
    assert caught.value.plugin == "a"
