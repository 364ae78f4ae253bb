"""The law of arounds: an onion that may change the arguments, call on several times or not at all, and must answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from sdcore import PluginError, RequestError, Result, ports
from sdcore.ports import PORTS, Port
from sdcore.stages import BlockOutput, RunOutput

from .kit import NEEDS, fingerprint, generate, is_blamed, model, plain, same_pictures, stage

LOOP = ("step", "unet")
AROUNDS = tuple(port for port in PORTS if port.kind == "around")


@dataclass(frozen=True)
class Case:
    """How to test one port.

    Attributes:
        change: other arguments, which give another picture.
        broken: arguments that the core cannot work with.
        wrong: results that break the law.
        again: whether a second call with the same arguments gives the same.
    """

    change: Callable[[Any], Any]
    broken: Callable[[Any], Any]
    wrong: tuple[Any, ...]
    again: bool = True
    fields: dict[str, Any] = field(default_factory=dict)


HALF = (torch.zeros(1, 4, 4, 4), "text", 3)
CASES: dict[Port[Any], Case] = {
    ports.whole_run: Case(
        lambda request: request.replace(prompt="a cat"),
        lambda request: request.replace(height=33),
        (
            "text",
            torch.zeros(1, 4, 8, 8),
            RunOutput(torch.zeros(1, 4, 8, 8), None),
            RunOutput(torch.zeros(1, 4, 8, 8), ()),
        ),
    ),
    ports.encode_text: Case(
        lambda args: args.replace(text="a cat"), lambda args: args.replace(text=5), ("text", torch.zeros(1, 77, 64))
    ),
    ports.encode_image: Case(
        lambda args: args.replace(pixels=-args.pixels),
        lambda args: args.replace(pixels=args.pixels[:, :2]),
        ("text", torch.zeros(4, 8, 8), torch.zeros(2, 4, 8, 8)),
        again=False,  # a sample of the posterior, from the picture's generator
        fields={"strength": 0.5, "steps": 4},
    ),
    ports.whole_step: Case(
        lambda args: args.replace(latents=args.latents * 2),
        lambda args: args.replace(latents=args.latents[:, :3]),
        HALF,
    ),
    ports.unet_call: Case(
        lambda inputs: inputs.replace(sample=inputs.sample * 2),
        lambda inputs: inputs.replace(sample=inputs.sample[:, :3]),
        HALF,
    ),
    ports.scheduler_step: Case(
        lambda args: args.replace(prediction=args.prediction / 2),
        lambda args: args.replace(prediction=args.prediction[:, :3]),
        HALF,
    ),
    ports.attention: Case(
        lambda args: args.replace(query=args.query * 2),
        lambda args: args.replace(key=args.key[..., :-1]),
        (torch.zeros(2, 8, 1, 8), "text"),
    ),
    ports.block: Case(
        lambda args: args.replace(hidden=args.hidden * 2),
        lambda args: args.replace(hidden=args.hidden[:, :-1]),
        (torch.zeros(2, 64, 2, 2), "text"),
    ),
    ports.decode: Case(
        lambda args: args.replace(latents=args.latents / 2),
        lambda args: args.replace(latents=args.latents[:, :3]),
        ("text", torch.zeros(3, 32, 32), torch.zeros(2, 3, 32, 32)),
    ),
}


def needs(port: Port[Any]) -> dict[str, Any]:
    return {**NEEDS.get(port, {}), **CASES[port].fields}


def usual(port: Port[Any]) -> Result:
    return plain(port, **CASES[port].fields)


def step_of(port: Port[Any]) -> int | None:
    return 0 if port.hook in LOOP else None


def test_every_around_is_tested() -> None:
    assert set(CASES) == set(AROUNDS)


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_calling_on_with_the_same_arguments_changes_nothing(port: Port[Any]) -> None:
    met = []

    def through(args: Any, call_next: Any) -> Any:
        met.append(args)
        return call_next(args)

    assert same_pictures(generate(stage("a", port, through), **needs(port)), usual(port))
    assert met


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_the_first_in_order_is_the_outermost(port: Port[Any]) -> None:
    log: list[str] = []

    def layer(name: str) -> Callable[..., Any]:
        def around(args: Any, call_next: Any) -> Any:
            log.append(f"{name} in")
            result = call_next(args)
            log.append(f"{name} out")
            return result

        return around

    one, two = (stage(name, port, layer(name)) for name in ("one", "two"))
    generate(two, one, **needs(port))
    assert log[:4] == ["two in", "one in", "one out", "two out"]
    log.clear()
    generate(one, two, **needs(port))
    assert log[:4] == ["one in", "two in", "two out", "one out"]


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_changed_arguments_reach_the_next_layer_and_the_core(port: Port[Any]) -> None:
    given, passed = [], []

    def change(args: Any, call_next: Any) -> Any:
        passed.append(CASES[port].change(args))
        return call_next(passed[-1])

    def look(args: Any, call_next: Any) -> Any:
        given.append(args)
        return call_next(args)

    changed = generate(stage("a", port, change), stage("b", port, look), **needs(port))
    assert all(one is other for one, other in zip(given, passed, strict=True))
    assert not same_pictures(changed, usual(port))


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_it_may_call_on_several_times(port: Port[Any]) -> None:
    def twice(args: Any, call_next: Any) -> Any:
        call_next(CASES[port].change(args))
        return call_next(args)

    result = generate(stage("a", port, twice), **needs(port))
    if CASES[port].again:
        assert same_pictures(result, usual(port))


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_it_may_not_call_on_at_all(port: Port[Any]) -> None:
    kept: list[Any] = []

    def keep(args: Any, call_next: Any) -> Any:
        kept.append(call_next(args))
        return kept[-1]

    # The encoder draws from the generators before the noise does, so noise of its own makes the runs comparable.
    noise = stage("noise", ports.noise, lambda args: torch.ones(args.shape))
    one = generate(stage("a", port, keep), noise, **needs(port))
    count = len(kept)
    left = iter(tuple(kept))
    answer = stage("a", port, lambda args, call_next: next(left))
    other = generate(answer, stage("b", port, keep), noise, **needs(port))
    assert same_pictures(one, other)
    assert len(kept) == count, "the layer inside was called"


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_none_is_an_error(port: Port[Any]) -> None:
    with pytest.raises(PluginError, match="returned None; an around stage must return a value") as caught:
        generate(stage("bad", port, lambda args, call_next: None), **needs(port))
    is_blamed(caught.value, "bad", port, step_of(port))


def _wrong() -> list[Any]:
    return [pytest.param(port, bad, id=f"{port}-{i}") for port in AROUNDS for i, bad in enumerate(CASES[port].wrong)]


@pytest.mark.parametrize(("port", "bad"), _wrong())
def test_a_result_that_breaks_the_law_names_the_plugin(port: Port[Any], bad: Any) -> None:
    through = stage("good", port, lambda args, call_next: call_next(args))
    with pytest.raises(PluginError, match="it returned") as caught:
        generate(through, stage("bad", port, lambda args, call_next: bad), **needs(port))
    wanted = "good" if isinstance(bad, RunOutput) else "bad"  # how many pictures a run gives is seen at its end
    is_blamed(caught.value, wanted, port, step_of(port))


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_what_it_passes_on_is_its_own_fault(port: Port[Any]) -> None:
    before = fingerprint(model())
    for name, bad in (("type", lambda args: "text"), ("value", CASES[port].broken)):

        def garble(args: Any, call_next: Any, bad: Any = bad) -> Any:
            return call_next(bad(args))

        through = stage("good", port, lambda args, call_next: call_next(args))
        with pytest.raises(PluginError) as caught:
            generate(through, stage("bad", port, garble), stage("inner", port, through_stage), **needs(port))
        is_blamed(caught.value, "bad", port, step_of(port))
        assert ("called call_next with str" in str(caught.value)) == (name == "type")
    assert fingerprint(model()) == before


def through_stage(args: Any, call_next: Any) -> Any:
    return call_next(args)


@pytest.mark.parametrize("port", AROUNDS, ids=str)
def test_an_error_from_inside_is_blamed_on_whoever_raised_it(port: Port[Any]) -> None:
    def fail(args: Any, call_next: Any) -> Any:
        raise ValueError("oh no")

    def hide(args: Any, call_next: Any) -> Any:
        try:
            return call_next(args)
        except PluginError as error:
            raise KeyError("hidden") from error

    with pytest.raises(PluginError, match="ValueError: oh no") as caught:
        generate(stage("outer", port, through_stage), stage("inner", port, fail), **needs(port))
    is_blamed(caught.value, "inner", port, step_of(port))
    with pytest.raises(PluginError, match="KeyError: 'hidden'") as caught:
        generate(stage("outer", port, hide), stage("inner", port, fail), **needs(port))
    is_blamed(caught.value, "outer", port, step_of(port))


def test_an_error_of_the_core_inside_is_not_blamed_on_the_stages_about_it() -> None:
    outer = stage("outer", ports.whole_run, through_stage)
    late = {"scheduler": "euler", "sigmas": (5.0, 1.0), "use": ["outer"]}
    with pytest.raises(RequestError) as caught:
        generate(outer, **late, eta=0.5)
    assert not isinstance(caught.value, PluginError)


def test_skips_of_a_down_block_are_counted() -> None:
    def forget(args: Any, call_next: Any) -> Any:
        return BlockOutput(call_next(args).hidden)

    def hook_sites(run: Any) -> Any:
        return ports.block(forget, sites=run.find_sites("block", "down")[:1])

    from .kit import plugin

    with pytest.raises(PluginError, match=r"returned 0 skip connections, block down.0.0.block emits 2") as caught:
        generate(plugin("bad", unet=hook_sites))
    is_blamed(caught.value, "bad", ports.block, 0)


def test_a_generator_is_no_answer() -> None:
    def lazily(args: Any, call_next: Any) -> Any:
        yield call_next(args)

    for port in AROUNDS:
        with pytest.raises(PluginError, match="generator") as caught:
            generate(stage("bad", port, lazily), **needs(port))
        is_blamed(caught.value, "bad", port, step_of(port))


def test_the_core_may_be_called_again_with_another_picture_size_in_the_loop() -> None:
    """Tiles: whole_step on parts of the latents, each its own step."""

    def halves(args: Any, call_next: Any) -> Tensor:
        parts = args.latents.split(4, dim=-1)
        return torch.cat([call_next(args.replace(latents=part.contiguous())) for part in parts], dim=-1)

    result = generate(stage("tiles", ports.whole_step, halves))
    assert result.latents.shape == (1, 4, 8, 8)
    assert not same_pictures(result, generate())
