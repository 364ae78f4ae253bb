"""What an engine makes of a request. Wrong requests: tests/wrong_input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import Field

from sdcore import (
    Change,
    Contributions,
    Engine,
    GenerateRequest,
    Options,
    Plugin,
    PluginError,
    Problem,
    RequestError,
    Result,
    Run,
    StateKey,
    hookimpl,
    ports,
)
from sdcore.events import Event, Finished, Started, Stepped, Warned
from sdcore.testing.tiny import tiny_folder

SMALL: dict[str, Any] = {"steps": 2, "height": 16, "width": 16, "scheduler": "ddim"}
RUN: dict[str, Any] = {"prompt": "a red apple", "seed": 3, **SMALL}
PICTURE = Image.radial_gradient("L").resize((48, 32)).convert("RGB")
SEEN = StateKey[list[str]]("seen")


class Tell(Options):
    """Options that come back in reports and in plan."""

    words: str = ""
    change: Mapping[str, Any] = Field(default_factory=dict)
    problem: str = ""


class TellPlugin(Plugin):
    name = "tell"
    options = Tell

    def __init__(self) -> None:
        self.log: list[str] = []

    @hookimpl
    def plan(self, run: Run) -> Any:
        self.log.append(f"plan {run.seeds}")
        run.state[SEEN] = ["plan"]
        found: list[Any] = []
        for tell in run.uses(Tell):
            found += [Problem(tell.problem)] if tell.problem else []
            found += [Change(**tell.change)] if tell.change else []
        return found

    @hookimpl
    def output(self, run: Run) -> Contributions:
        return ports.metadata(lambda picture: {"state": run.state[SEEN], "words": [u.words for u in run.uses(Tell)]})

    @hookimpl
    def observe(self, event: Event) -> None:
        self.log.append(type(event).__name__)


class OtherPlugin(Plugin):
    name = "other"

    @hookimpl
    def plan(self, run: Run) -> Any:
        return [Change(steps=3)]


class TwicePlugin(Plugin):
    """Carries every pass out twice, and compares."""

    name = "twice"

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        def twice(request: Any, call_next: Callable[[Any], Any]) -> Any:
            first, second = call_next(request), call_next(request)
            assert torch.equal(first.latents, second.latents)
            changed = call_next(request.replace(steps=1))
            assert changed.latents.shape == first.latents.shape
            assert not torch.equal(first.latents, changed.latents)
            again = call_next(request.replace(image=first.latents, denoising_start=1.0))
            assert torch.equal(again.latents, first.latents)
            return second

        return ports.whole_run(twice)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(tiny_folder("sd1"), plugins=[TellPlugin, OtherPlugin, TwicePlugin])


def with_defaults(engine: Engine, **defaults: Any) -> Engine:
    return Engine(dataclasses.replace(engine.model, defaults=defaults), plugins=())


def same(one: Result, other: Result) -> bool:
    return torch.equal(one.latents, other.latents) and one.images == other.images


# -- ways to ask ----------------------------------------------------------------------------------------


def test_every_way_to_ask_is_the_same(engine: Engine) -> None:
    wanted = engine.generate("a red apple", seed=3, **SMALL)
    for request, fields in [
        (GenerateRequest(**RUN), {}),
        (RUN, {}),
        (None, RUN),
        (GenerateRequest("a dog", **SMALL), {"prompt": "a red apple", "seed": 3}),
        ({**RUN, "steps": 9}, {"num_inference_steps": 2}),
        ({**SMALL, "seeds": [1, 2]}, {"prompt": "a red apple", "seed": 3}),
        (GenerateRequest.from_json(engine.to_json(**RUN)), {}),
        (wanted.request, {}),
        (wanted.request.replace(seed=9), {"seed": 3}),
    ]:
        assert same(engine.generate(request, **fields), wanted)
    assert same(engine.stream(**RUN).result(), wanted)


def test_aliases(engine: Engine) -> None:
    result = engine.generate(
        "a", num_inference_steps=1, cfg_scale=2.0, num_images_per_prompt=2, sampler="ddim", height=16, width=16
    )
    request = result.request
    assert (request.steps, request.guidance_scale, request.count, request.scheduler) == (1, 2.0, 2, "ddim")
    assert len(result.images) == 2


def test_options_as_json(engine: Engine) -> None:
    use = [Tell(words="a"), "tell:words=b"]
    text = engine.to_json(**RUN, use=use)
    assert '"use": [{"plugin": "tell", "options": {"words": "a", "change": {}, "problem": ""}}' in text
    one, other = engine.generate(**RUN, use=use), engine.generate(GenerateRequest.from_json(text))
    assert same(one, other)
    assert one.reports == other.reports
    assert one.reports[0]["tell"]["words"] == ["a", "b"]
    assert engine.to_json(one.request.replace(use=())) == other.request.replace(use=()).to_json()


# -- defaults -------------------------------------------------------------------------------------------


def test_defaults_of_the_family(engine: Engine) -> None:
    request = engine.generate("a", steps=1).request
    assert (request.height, request.width) == (64, 64)
    assert (request.guidance_scale, request.strength, request.scheduler) == (7.5, None, None)
    assert engine.generate("a", image=PICTURE, steps=2).request.strength == 0.75


def test_defaults_of_the_model(engine: Engine) -> None:
    advised = {"steps": 2, "guidance_scale": 2.5, "scheduler": "ddim", "height": 16, "width": 24, "strength": 0.5}
    other = with_defaults(engine, **advised, negative_prompt="blurry", clip_skip=1)
    request = other.generate("a").request
    assert {name: getattr(request, name) for name in advised} == {**advised, "strength": None}
    assert (request.negative_prompt, request.clip_skip) == ("blurry", 1)
    given = {"steps": 1, "guidance_scale": 1.0, "scheduler": "ddpm", "height": 8, "negative_prompt": ""}
    request = other.generate("a", **given).request
    assert {name: getattr(request, name) for name in given} == given
    assert request.width == 24
    request = other.generate("a", image=PICTURE).request  # the picture's size comes before the model's
    assert (request.height, request.width, request.strength) == (32, 48, 0.5)
    assert other.generate("a", timesteps=(900, 500, 1), scheduler="ddpm").request.steps == 3


def test_the_models_own_scheduler_is_the_default(engine: Engine) -> None:
    assert engine.model.scheduler_config["_class_name"] == "PNDMScheduler"
    own = engine.generate(**{**RUN, "scheduler": None})
    assert same(own, engine.generate(**{**RUN, "scheduler": "pndm"}))
    assert not same(own, engine.generate(**RUN))


# -- seeds ----------------------------------------------------------------------------------------------


def test_a_seed_is_drawn_and_named(engine: Engine) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, other = engine.generate("a", **SMALL), engine.generate("a", **SMALL)
    assert one.seeds != other.seeds
    assert one.request.seeds == tuple(one.seeds)
    assert one.record.seed == one.seeds[0]
    assert same(engine.generate("a", seed=one.seeds[0], **SMALL), one)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({"seed": 5, "count": 3}, [5, 6, 7]),
        ({"seeds": [9, 2, 9]}, [9, 2, 9]),
        ({"seed": 0}, [0]),
        ({"seed": 2**63 - 1}, [2**63 - 1]),
        ({"seed": 2**63 - 2, "count": 2}, [2**63 - 2, 2**63 - 1]),
        ({"seeds": [3], "count": 1}, [3]),
    ],
)
def test_seeds(engine: Engine, fields: dict[str, Any], seeds: list[int]) -> None:
    result = engine.generate("a", **SMALL, **fields)
    assert result.seeds == seeds == list(result.request.seeds or ())
    assert [picture.index for picture in result.pictures] == list(range(len(seeds)))
    assert result.request.count == len(seeds)


@pytest.mark.parametrize("scheduler", ["ddim", "euler-a"])
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_picture_of_a_batch_is_the_one_that_its_seed_gives_alone(engine: Engine, scheduler: str) -> None:
    fields = {**RUN, "scheduler": scheduler}
    together = engine.generate(**{**fields, "seed": 3}, count=3)
    one_by_one = engine.generate(**fields, count=3, batch_size=1)
    for place in range(3):
        alone = engine.generate(**{**fields, "seed": 3 + place})
        assert torch.equal(one_by_one.latents[place], alone.latents[0])
        assert one_by_one.images[place] == alone.image
        assert torch.allclose(together.latents[place], alone.latents[0], atol=1e-3)
    assert not torch.allclose(together.latents[0], together.latents[1], atol=0.1)


# -- events ---------------------------------------------------------------------------------------------


def test_events_in_order(engine: Engine) -> None:
    events: list[Event] = []
    result = engine.generate(**RUN, count=3, batch_size=2, on_event=events.append)
    assert [type(event) for event in events] == [Started, Stepped, Stepped] * 2 + [Finished]
    starts = [event for event in events if isinstance(event, Started)]
    assert [(event.batch, event.batches, event.steps) for event in starts] == [(1, 2, 2), (2, 2, 2)]
    assert [event.run.seeds for event in starts] == [(3, 4), (5,)]
    steps = [event.step for event in events if isinstance(event, Stepped)]
    assert [(step.index, step.count) for step in steps] == [(0, 2), (1, 2)] * 2
    assert isinstance(events[-1], Finished)
    assert events[-1].result is result
    streamed = [type(event) for event in engine.stream(**RUN, count=3, batch_size=2)]
    assert streamed == [type(event) for event in events]


def test_plugins_in_use_see_the_same_events(engine: Engine) -> None:
    plugin = engine.host.plugin("tell")
    assert isinstance(plugin, TellPlugin)
    plugin.log.clear()
    engine.generate(**RUN)
    assert plugin.log == []
    engine.generate(**RUN, count=3, batch_size=2, use="tell")
    events = ["Started", "Stepped", "Stepped"]
    assert plugin.log == ["plan (3, 4)", *events, "plan (5,)", *events, "Finished"]


def test_lost_words_are_told(engine: Engine) -> None:
    events: list[Event] = []
    result = engine.generate(**{**RUN, "prompt": "red " * 75 + "green dog"}, long_prompt="cut", on_event=events.append)
    assert [type(event) for event in events] == [Started, Warned, Stepped, Stepped, Finished]
    assert result.lost_tokens == ("green", "dog")
    assert "green dog" in next(event.message for event in events if isinstance(event, Warned))


@pytest.mark.parametrize(("size", "expected"), [((16, 16), (16, 16)), ((8, 136), (4, 128))])
def test_previews(engine: Engine, size: tuple[int, int], expected: tuple[int, int]) -> None:
    previews: list[list[Image.Image]] = []

    def look(event: Event) -> None:
        if isinstance(event, Stepped):
            previews.append(event.preview())

    fields = {**RUN, "height": size[0], "width": size[1]}
    seen = engine.generate(**fields, count=2, on_event=look)
    assert [[image.size for image in images] for images in previews] == [[expected[::-1]] * 2] * 2
    assert previews[-1][0] != previews[-1][1]
    assert same(seen, engine.generate(**fields, count=2))  # looking changes nothing


# -- pictures and latents in ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "fields", "expected"),
    [
        ((48, 32), {}, (48, 32)),
        ((50, 35), {}, (48, 32)),
        ((9, 11), {}, (8, 8)),
        ((48, 32), {"height": 16}, (48, 16)),
        ((48, 32), {"width": 64}, (64, 32)),
        ((48, 32), {"height": 24, "width": 24}, (24, 24)),
    ],
)
def test_the_size_follows_the_picture(
    engine: Engine, size: tuple[int, int], fields: dict[str, Any], expected: tuple[int, int]
) -> None:
    result = engine.generate("a", seed=1, steps=2, image=PICTURE.resize(size), strength=0.5, **fields)
    assert result.image.size == expected


def test_strength(engine: Engine) -> None:
    steps: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Stepped):
            steps.append(event.step.index)

    def run(strength: float) -> Result:
        steps.clear()
        return engine.generate(**{**RUN, "steps": 4}, image=PICTURE, strength=strength, on_event=count)

    full = run(1.0)
    assert len(steps) == 4
    half = run(0.5)
    assert len(steps) == 2
    kept = run(0.0)
    assert steps == []
    for one, other in ((full, half), (half, kept), (kept, full)):
        assert not torch.equal(one.latents, other.latents)


def test_latents_out(engine: Engine) -> None:
    result = engine.generate(**RUN, count=3, batch_size=2, output="latent")
    assert result.images == []
    assert result.latents.shape == (3, 4, 4, 4)
    assert result.request.seeds == (3, 4, 5)
    assert torch.equal(result.latents, engine.generate(**RUN, count=3, batch_size=2).latents)
    with pytest.raises(RequestError, match=r"output is 'latent' \(see result.latents\)"):
        _ = result.image


def test_a_run_in_two_halves(engine: Engine) -> None:
    fields = {**RUN, "steps": 4}
    whole = engine.generate(**fields, count=2)
    first = engine.generate(**fields, count=2, denoising_end=0.5, output="latent")
    second = engine.generate(
        **{**fields, "height": None, "width": None}, count=2, denoising_start=0.5, image=first.latents
    )
    assert not torch.equal(first.latents, whole.latents)
    assert same(second, whole)
    assert second.image.size == (16, 16)


def test_latents_for_each_picture_or_for_all(engine: Engine) -> None:
    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    fields = {**RUN, "count": 3, "strength": 0.5}
    each = engine.generate(**fields, image=latents, batch_size=1)
    for place in range(3):
        alone = engine.generate(**{**fields, "count": 1, "seed": 3 + place}, image=latents[place])
        assert torch.equal(each.latents[place], alone.latents[0])
    assert torch.equal(each.request.image, latents)
    for batch_size in (2, 3):
        together = engine.generate(**fields, image=latents, batch_size=batch_size)
        assert torch.allclose(together.latents, each.latents, atol=1e-3)
    for one in (latents[0], latents[:1]):
        shared = engine.generate(**fields, image=one, batch_size=2)
        assert torch.equal(
            shared.latents[2], engine.generate(**{**fields, "count": 1, "seed": 5}, image=one).latents[0]
        )


# -- plan -----------------------------------------------------------------------------------------------


def test_what_plan_keeps_is_there_later(engine: Engine) -> None:
    result = engine.generate(**RUN, count=3, batch_size=2, use="tell")
    assert [report["tell"]["state"] for report in result.reports] == [["plan"]] * 3


def test_a_plugin_changes_fields(engine: Engine) -> None:
    change = Tell(change={"steps": 1, "height": 24, "guidance_scale": 2.0})
    result = engine.generate(**RUN, use=change)
    assert (result.request.steps, result.request.height, result.image.size) == (1, 24, (16, 24))
    plain = engine.generate(**{**RUN, "steps": 1, "height": 24, "guidance_scale": 2.0})
    assert torch.equal(result.latents, plain.latents)
    assert engine.generate(**RUN, image=PICTURE, use=Tell(change={"strength": 0.5})).request.strength == 0.5
    assert engine.generate(**RUN, use=Tell(change={"timesteps": (9, 5, 1), "scheduler": "ddpm"})).request.steps == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, r"steps=0.*greater than or equal to 1"),
        ({"stepz": 1}, r"stepz=1.*'steps'"),
        ({"seed": 1}, "seed=1.*cannot change it"),
        ({"count": 5}, "count=5.*cannot change it"),
        ({"strength": 0.5}, "strength=0.5.*no image"),
    ],
)
def test_a_change_that_is_not_possible(engine: Engine, change: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=rf"'tell'.*failed in plan.*{words}"):
        engine.generate(**RUN, use=Tell(change=change))


def test_a_change_to_a_size_that_is_not_possible(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"height 18.*16 or 20"):
        engine.generate(**RUN, use=Tell(change={"height": 18}))


def test_problems_and_disagreements_are_all_said(engine: Engine) -> None:
    use = [Tell(problem="first thing", change={"steps": 5}), Tell(problem="second thing"), "other"]
    with pytest.raises(RequestError) as caught:
        engine.generate(**RUN, use=use)
    for words in ("tell: first thing", "tell: second thing", "tell needs steps=5, other needs steps=3", "leave one"):
        assert words in str(caught.value)
    assert engine.generate(**RUN, use=[Tell(change={"steps": 3}), "other"]).request.steps == 3


# -- passes and the rest --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_plugin_carries_out_several_passes(engine: Engine, batch_size: int) -> None:
    fields = {**RUN, "count": 3, "batch_size": batch_size}
    assert same(engine.generate(**fields, use="twice"), engine.generate(**fields))


def test_explain_computes_nothing(engine: Engine) -> None:
    hook = engine.model.unet.register_forward_pre_hook(lambda *_: pytest.fail("the U-Net was called"))
    try:
        plan = engine.explain(**RUN, use=["twice", "tell"], count=5)
    finally:
        hook.remove()
    assert {row.plugin for row in plan.rows()} == {"core", "twice", "tell"}
    assert "whole_run" in str(plan)


def test_it_says_what_it_is(engine: Engine) -> None:
    assert repr(engine).startswith("<Engine sd1 from ")
    assert "3 plugins" in repr(engine)
    with with_defaults(engine) as other:
        assert other.model.family == "sd1"
    assert repr(other) == "<Engine closed>"
    assert engine.generate(**RUN).image.size == (16, 16)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "refiner"])
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_other_families(family: str) -> None:
    engine = Engine.load(tiny_folder(family), plugins=())
    fields: dict[str, Any] = {"seed": 3, "steps": 4, "height": 16, "width": 16, "count": 2}
    one = engine.generate("a red apple", **fields)
    assert same(engine.generate(GenerateRequest.from_json(one.request.to_json())), one)
    assert engine.generate("a", image=one.image, steps=4).image.size == (16, 16)
