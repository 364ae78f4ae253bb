"""What an application puts into ``always`` is in every run, and no request gets round it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from sdcore import (
    Change,
    Engine,
    GenerateRequest,
    Options,
    Plugin,
    PluginError,
    PluginLoadError,
    RequestError,
    Result,
    Verdict,
    Withheld,
    hookimpl,
    ports,
)
from sdcore.events import Event, Stepped
from sdcore.models import Model
from sdcore.ports import Contributions
from sdcore.run import Run

RUN: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "steps": 2, "height": 16, "width": 16}
MARK = (1, 2, 3)


class Guard(Options):
    """A policy: every picture is judged and marked, and previews do not leave."""

    locked: ClassVar[bool] = True

    forbidden: tuple[int, ...] = ()
    forbidden_previews: tuple[int, ...] = ()
    forbidden_word: str = "zebra"


class GuardPlugin(Plugin):
    name = "guard"
    options = Guard

    @hookimpl
    def plan(self, run: Run) -> Any:
        return [Change(previews=False)]

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        (guard,) = run.uses(Guard)

        def prompt(prompt: Any) -> Verdict | None:
            return Verdict("withhold", "forbidden word") if guard.forbidden_word in prompt.positive else None

        def preview(step: Any, x0: Any) -> list[Verdict | None]:
            return [Verdict("withhold", "seen early") if s in guard.forbidden_previews else None for s in run.seeds]

        def image(picture: Any, image: Any) -> Verdict | None:
            return Verdict("withhold", "forbidden picture") if picture.seed in guard.forbidden else None

        return [ports.judge_prompt(prompt), ports.judge_preview(preview), ports.judge_image(image)]

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        def mark(picture: Any, image: Any) -> Any:
            marked = image.copy()
            marked.putpixel((0, 0), MARK)
            return marked

        return ports.image(mark, phase="watermark")


class Watch(Options):
    """A policy that looks at prompts and previews only, and may be given again."""

    forbidden_previews: tuple[int, ...] = ()


class WatchPlugin(Plugin):
    name = "watch"
    options = Watch

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        forbidden = {seed for watch in run.uses(Watch) for seed in watch.forbidden_previews}

        def preview(step: Any, x0: Any) -> list[Verdict | None]:
            return [Verdict("withhold", "seen early") if seed in forbidden else None for seed in run.seeds]

        return ports.judge_preview(preview)


class Thief(Options):
    """What a request would use to get round a policy."""

    way: str


class ThiefPlugin(Plugin):
    name = "thief"
    options = Thief

    @hookimpl
    def plan(self, run: Run) -> Any:
        (thief,) = run.uses(Thief)
        if thief.way == "use":
            return [Change(use=())]
        if thief.way == "latent":
            return [Change(output="latent")]
        if thief.way == "previews":
            return [Change(previews=True)]
        return None

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        (thief,) = run.uses(Thief)

        def whole(request: GenerateRequest, call_next: Any) -> Any:
            if thief.way == "no pictures":
                return call_next(request.replace(output="latent"))
            return call_next(request.replace(use=())) if thief.way == "child" else call_next(request)

        return ports.whole_run(whole)


PLUGINS = [GuardPlugin, WatchPlugin, ThiefPlugin]


@pytest.fixture(scope="module")
def model(engine: Engine) -> Model:
    return engine.model


@pytest.fixture(scope="module")
def guarded(model: Model) -> Engine:
    return Engine(model, plugins=PLUGINS, always=[Guard(forbidden=(7, 8))])


def marked(result: Result) -> bool:
    return all(image.getpixel((0, 0)) == MARK for image in result.images)


@pytest.mark.parametrize(
    "always",
    [[Guard()], Guard(), "guard", ["guard:forbidden=[7]"], {"plugin": "guard"}, [{"plugin": "guard", "options": {}}]],
)
def test_every_way_to_write_it(model: Model, always: Any) -> None:
    assert marked(Engine(model, plugins=PLUGINS, always=always).generate(**RUN))


@pytest.mark.parametrize(
    ("always", "kind", "words"),
    [
        ("gaurd", PluginLoadError, "no plugin 'gaurd'.*'guard'"),
        ("guard:forbiden=[7]", RequestError, "'forbiden'.*'forbidden'"),
        ("guard:forbidden=7", RequestError, "guard.*forbidden"),
        (5, RequestError, "list of options"),
        ([Guard], RequestError, "Guard is the class"),
    ],
)
def test_a_broken_policy_is_an_error_at_once(model: Model, always: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Engine(model, plugins=PLUGINS, always=always)


def test_a_policy_of_a_plugin_that_is_not_there(model: Model) -> None:
    with pytest.raises(PluginLoadError, match="Guard"):
        Engine(model, plugins=(), always=[Guard()])


@pytest.mark.parametrize(
    "use",
    [[Guard()], ["guard"], "guard:forbidden=[]", [{"plugin": "guard", "options": {}}], [Thief(way="none"), Guard()]],
)
def test_a_locked_policy_cannot_be_given_again(guarded: Engine, use: Any, unharmed: Callable[[], None]) -> None:
    for ask in (guarded.generate, guarded.explain, lambda **fields: guarded.stream(**fields).result()):
        with pytest.raises(RequestError, match=r"'guard' is set by the application.*leave it out"):
            ask(**RUN, use=use)
    assert marked(guarded.generate(**RUN))
    unharmed()


def test_a_policy_that_is_not_locked_can_be_added_to(model: Model) -> None:
    engine = Engine(model, plugins=PLUGINS, always=[Watch(forbidden_previews=(3,))])
    with pytest.raises(Withheld):
        engine.generate(**RUN, use=[Watch()])
    with pytest.raises(Withheld):
        engine.generate(**{**RUN, "seed": 4}, use=[Watch(forbidden_previews=(4,))])


def test_it_is_in_every_run(guarded: Engine) -> None:
    assert marked(guarded.generate(**RUN))
    assert marked(guarded.generate(GenerateRequest(**RUN), use=[]))
    assert marked(guarded.stream(**RUN).result())
    assert marked(guarded.generate(GenerateRequest.from_json(guarded.to_json(**RUN))))
    assert "guard" in str(guarded.explain(**RUN))
    with pytest.raises(Withheld, match="forbidden word"):
        guarded.generate(**{**RUN, "prompt": "a zebra"})
    with pytest.raises(Withheld, match="forbidden picture"):
        guarded.stream(**{**RUN, "seed": 7}).result()


def test_some_pictures_are_withheld(guarded: Engine) -> None:
    result = guarded.generate(**{**RUN, "seed": 6, "count": 4})
    assert result.seeds == [6, 9]
    assert [(item.seed, item.index) for item in result.withheld] == [(7, 1), (8, 2)]
    assert len(result.latents) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.generate(**RUN, output="latent"),
        lambda engine: engine.stream(**RUN, output_type="latent").result(),
        lambda engine: engine.explain(**RUN, output="latent"),
        lambda engine: engine.generate(**RUN, use=[Thief(way="latent")]),
    ],
)
def test_latents_do_not_leave_unseen(
    guarded: Engine, ask: Callable[[Engine], object], unharmed: Callable[[], None]
) -> None:
    calls: list[int] = []
    hook = guarded.model.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(RequestError, match=r"'latent'.*guard.*output='image'"):
            ask(guarded)
    finally:
        hook.remove()
    assert calls == []
    unharmed()


def test_latents_may_leave_where_no_policy_looks_at_pictures(model: Model) -> None:
    engine = Engine(model, plugins=PLUGINS, always=[Watch()])
    assert engine.generate(**RUN, output="latent").latents.shape == (1, 4, 4, 4)


@pytest.mark.parametrize("output", ["image", "latent"])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_what_a_preview_has_condemned(model: Model, output: str, batch_size: int) -> None:
    """Also as latents, and whatever else is in its batch."""
    engine = Engine(model, plugins=PLUGINS, always=[Watch(forbidden_previews=(4,))])
    result = engine.generate(**RUN, count=3, output=output, batch_size=batch_size)
    assert [(item.seed, item.index) for item in result.withheld] == [(4, 1)]
    assert result.latents.shape[0] == 2
    assert result.seeds == ([3, 5] if output == "image" else [])
    with pytest.raises(Withheld, match="seen early"):
        engine.generate(**{**RUN, "seed": 4}, output=output)


@pytest.mark.parametrize(
    ("way", "words"), [("use", "thief.*use.*cannot change"), ("no pictures", "thief.*without pictures")]
)
def test_plugins_that_are_stopped(guarded: Engine, way: str, words: str, unharmed: Callable[[], None]) -> None:
    with pytest.raises(PluginError, match=words):
        guarded.generate(**RUN, use=[Thief(way=way)])
    unharmed()


def test_a_pass_without_plugins_is_still_marked(guarded: Engine) -> None:
    assert marked(guarded.generate(**RUN, use=[Thief(way="child")]))


@pytest.mark.parametrize("use", [[], [Thief(way="previews")]])
def test_previews_do_not_leave(guarded: Engine, use: list[Options]) -> None:
    seen: list[Any] = []

    def look(event: Event) -> None:
        if isinstance(event, Stepped):
            seen.append(event.preview())

    guarded.generate(**RUN, use=use, on_event=look)
    assert len(seen) > 1
    assert not any(seen)
