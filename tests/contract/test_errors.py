"""A plugin that fails anywhere: the error says who, where and when, and the engine is as it was."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from sdcore import Cancelled, Engine, PluginError, RequestError, Result, SidePath, Use, WeightPatch, Withheld, ports
from sdcore.errors import OutOfMemoryError, PluginLoadError
from sdcore.events import Stepped
from sdcore.ports import PORTS, Port

from .kit import (
    FUNCTIONS,
    NEEDS,
    REQUEST,
    at,
    fingerprint,
    generate,
    is_blamed,
    model,
    plain,
    plugin,
    same_pictures,
    stage,
    watched,
)

LOOP = ("step", "unet")


def needs(port: Port[Any]) -> dict[str, Any]:
    return NEEDS.get(port, {})


def boom(*args: Any) -> Any:
    raise ValueError("oh no")


def carry_out(engine: Engine, port: Port[Any], **fields: Any) -> Result:
    result = engine.generate(**{**REQUEST, **needs(port), **fields})
    if port.hook == "output":
        result.pictures[0].encode()
    return result


def is_clean(engine: Engine, before: tuple[str, Result], port: Port[Any]) -> None:
    """Weights, hooks and forwards are what they were, another thread can generate, and it gives the same."""
    assert fingerprint(engine.model) == before[0]
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(carry_out(engine, port)), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert found, "the engine is locked"
    assert same_pictures(found[0], before[1])


@pytest.mark.parametrize("port", [*FUNCTIONS, ports.weights], ids=str)
def test_a_stage_that_raises(port: Port[Any]) -> None:
    fn: Any = WeightPatch("unet", "conv_out.bias", boom) if port is ports.weights else boom
    engine = Engine(model(), plugins=[stage("bad", port, fn)])
    before = fingerprint(engine.model), plain(port)
    if port.hook == "judge":  # fails closed: nothing leaves
        with pytest.raises(Withheld, match=r"check of bad .*failed: ValueError: oh no") as withheld:
            carry_out(engine, port, use=[Use(plugin="bad")])
        assert [verdict.severity for verdict in withheld.value.verdicts] == ["error"]  # type: ignore[attr-defined]
    else:
        with pytest.raises(PluginError, match="ValueError: oh no") as caught:
            carry_out(engine, port, use=[Use(plugin="bad")])
        is_blamed(caught.value, "bad", port, 0 if port.hook in LOOP else None)
        assert isinstance(caught.value.__cause__, ValueError)
        assert "class " in caught.value.version
        assert "BadPlugin" in caught.value.version
    is_clean(engine, before, port)


@pytest.mark.parametrize(
    "port",
    [pytest.param(port, id=str(port)) for port in PORTS if port.hook in LOOP],
)
def test_a_stage_that_raises_late_names_its_step(port: Port[Any]) -> None:
    def late(*args: Any) -> Any:
        step = next(found for arg in args if (found := arg if hasattr(arg, "fraction") else getattr(arg, "step", None)))
        if step.index == 1:
            raise ValueError("oh no")
        if port.kind == "around":
            return args[1](args[0])
        return args[1]["cond"] if port is ports.guidance else [] if port is ports.branches else None

    engine = Engine(model(), plugins=[stage("bad", port, late)])
    before = fingerprint(engine.model), plain(port)
    with pytest.raises(PluginError, match="at step 1: ValueError: oh no") as caught:
        carry_out(engine, port, use=[Use(plugin="bad")])
    is_blamed(caught.value, "bad", port, 1)
    is_clean(engine, before, port)


@pytest.mark.parametrize("part", ["delta", "strength", "path", "path strength"])
def test_each_part_of_a_patch_that_raises(part: str) -> None:
    patches = {
        "delta": WeightPatch("unet", "conv_out.bias", boom, lambda step, branch: 1.0),
        "strength": WeightPatch("unet", "conv_out.bias", torch.ones_like, boom),
        "path": SidePath("conv_out", boom),
        "path strength": SidePath("conv_out", torch.zeros_like, boom),
    }
    engine = Engine(model(), plugins=[stage("bad", ports.weights, patches[part])])
    before = fingerprint(engine.model), plain()
    with pytest.raises(PluginError, match="oh no") as caught:
        carry_out(engine, ports.weights, use=["bad"])
    is_blamed(caught.value, "bad", ports.weights, None if part == "delta" else 0)
    is_clean(engine, before, ports.weights)


HOOKS = ("plan", "whole_run", "weights", "text", "latents", "step", "unet", "decode", "output", "judge", "observe")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises(hook: str) -> None:
    engine = Engine(model(), plugins=[plugin("bad", **{hook: boom})])
    before = fingerprint(engine.model), plain()
    with pytest.raises(PluginError, match="ValueError: oh no") as caught:
        carry_out(engine, ports.prompt, use=["bad"])
    is_blamed(caught.value, "bad", hook, None)
    is_clean(engine, before, ports.prompt)


def test_a_plugin_that_fails_at_start_is_told_when_it_was_given() -> None:
    with pytest.raises(PluginLoadError, match=r"'bad'.*failed to start: ValueError: oh no"):
        Engine(model(), plugins=[plugin("bad", register=boom)])


def test_an_error_that_a_hook_raises_on_purpose_stays_and_says_where_it_came_from() -> None:
    def refuse(run: Any) -> Any:
        raise RequestError("the mask is as small as the sky")

    with pytest.raises(RequestError, match="the mask is as small") as caught:
        generate(plugin("a", step=refuse))
    assert any("hook step of plugin 'a'" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("port", FUNCTIONS, ids=str)
def test_cancelling_from_any_stage_leaves_the_engine_clean(port: Port[Any]) -> None:
    runs: list[Any] = []

    def cancel(*args: Any) -> Any:
        runs[0].cancel()
        runs[0].check_cancelled()

    def hook(run: Any) -> Any:
        runs[:] = [run]
        return at(port, cancel)(run)

    engine = Engine(model(), plugins=[plugin("stopper", **{port.hook: hook})])
    before = fingerprint(engine.model), plain(port)
    with pytest.raises(Cancelled):
        carry_out(engine, port, use=["stopper"])
    is_clean(engine, before, port)


def test_cancelling_from_an_event_stops_before_the_next_unet_call() -> None:
    def stop(event: Any) -> None:
        if isinstance(event, Stepped):
            event.run.cancel()

    with watched() as calls, pytest.raises(Cancelled):
        generate(stage("a", ports.latents_out, lambda step, latents: None), steps=5, on_event=stop)
    assert len(calls) == 1


def test_running_out_of_memory_in_a_stage_is_no_plugin_error() -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("no memory left")

    engine = Engine(model(), plugins=[stage("big", ports.latents_in, full)])
    before = fingerprint(engine.model), plain()
    with pytest.raises(OutOfMemoryError):
        carry_out(engine, ports.latents_in, use=["big"])
    is_clean(engine, before, ports.latents_in)


def test_a_run_under_inference_mode_and_under_grad_gives_the_same() -> None:
    plugins = [
        stage("a", ports.latents_in, lambda step, latents: latents * 1),
        stage("b", ports.attention_qkv, lambda args: args.replace(value=args.value * 1)),
        stage("c", ports.weights, WeightPatch("unet", "conv_out.bias", lambda w: w * 0)),
    ]
    plain = generate(*plugins)
    with torch.inference_mode():
        inside = generate(*plugins)
    assert torch.equal(inside.latents, plain.latents)
    with torch.enable_grad():
        assert torch.equal(generate(*plugins).latents, plain.latents)
    assert not plain.latents.requires_grad
