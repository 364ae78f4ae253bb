"""A trace tells what each plugin did, and changes nothing: not the pictures, not the record, not the errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image

from sdcore import Contributions, Engine, Plugin, PluginError, Result, Run, Use, WeightPatch, hookimpl, ports
from sdcore.models import load_model
from sdcore.stages import SidePath
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet
from sdcore.testing.tiny_lora import tiny_lora
from sdcore.trace import Trace, TraceRow

REQUEST: dict[str, Any] = {
    "prompt": "a red apple",
    "seed": 3,
    "steps": 3,
    "height": 64,
    "width": 64,
    "scheduler": "ddim",
    "guidance_scale": 3.0,
}
KEY = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"


@cache
def model() -> Any:
    return load_model(str(tiny_folder("sd1")))


def plugin(name: str, hook: str, contribute: Callable[[Run], Contributions]) -> type[Plugin]:
    def method(self: Plugin, run: Run) -> Contributions:
        return contribute(run)

    return type(f"{name.title()}Plugin", (Plugin,), {"name": name, hook: hookimpl(method)})


def run(*plugins: type[Plugin], trace: bool = True, **fields: Any) -> Result:
    engine = Engine(model(), plugins=list(plugins))
    use = [Use(plugin=one.name) for one in plugins]
    return engine.generate(**{**REQUEST, **fields}, use=use, trace=trace)


def traced(*plugins: type[Plugin], **fields: Any) -> Trace:
    trace = run(*plugins, **fields).trace
    assert trace is not None
    return trace


def rows(trace: Trace, where: str) -> list[TraceRow]:
    return [row for row in trace.rows if row.where == where]


# --- nothing changes


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """LoRA, one of them scheduled, ControlNet, inpainting and a watermark in one request."""
    folder = tmp_path_factory.mktemp("lora")
    files = [tiny_lora(folder / f"{n}.safetensors", "sd1", layout="kohya", seed=n, scale=0.3) for n in (1, 2)]
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    use = [
        Use(plugin="inpaint", options={"mask": mask}),
        Use(plugin="controlnet", options={"model": str(tiny_controlnet("sd1", seed=1)), "image": picture}),
        Use(plugin="lora", options={"path": str(files[0]), "weight": 0.8}),
        Use(plugin="lora", options={"path": str(files[1]), "weight": [[0.0, 0.2], [1.0, 1.0]]}),
        Use(plugin="watermark"),
    ]
    fields = {name: value for name, value in REQUEST.items() if name not in ("height", "width")}
    return {**fields, "steps": 4, "image": picture, "strength": 0.7, "use": use}


def test_with_everything_in_use_a_trace_changes_no_bit(everything: dict[str, Any]) -> None:
    engine = Engine(model(), plugins=["inpaint", "controlnet", "lora", "watermark"])
    weights = {name: value.clone() for name, value in model().unet.state_dict().items()}
    plain = engine.generate(**everything)
    result = engine.generate(**everything, trace=True)
    again = engine.generate(**everything)
    assert plain.trace is None
    assert again.trace is None
    assert result.latents.equal(plain.latents)
    assert result.image.tobytes() == plain.image.tobytes() == again.image.tobytes()
    assert result.record.to_json() == plain.record.to_json()
    assert all(value.equal(weights[name]) for name, value in model().unet.state_dict().items())
    assert not model().unet._forward_hooks
    assert not model().unet._forward_pre_hooks
    trace = result.trace
    assert trace is not None
    assert {row.plugin for row in trace.rows} == {"core", "inpaint", "controlnet", "lora", "watermark"}
    changed = {item.plugin: item.change for item in trace.changes()}
    assert all(change is not None and 0 < change < 2 for change in changed.values()), changed
    assert 0.001 < changed["watermark"] < 0.1  # type: ignore[operator]
    assert trace.who_changed_most() == "inpaint"
    picture = trace.picture()
    assert picture.mode == "RGB"
    assert picture.width == 1280
    assert len(picture.getcolors(maxcolors=1 << 20) or ()) > 50
    assert json.loads(trace.to_json())["changes"][0]["plugin"] == "inpaint"


def test_a_plan_is_left_alone_without_a_trace() -> None:
    """What is called is the very function that the plugin gave: no cost, and nothing in tracebacks."""
    seen: list[str] = []

    def look(step: Any, latents: Any) -> None:
        import sys

        seen.append(sys._getframe(1).f_code.co_name)

    watch = plugin("watch", "step", lambda run: ports.latents_out(look))
    run(watch, trace=False)
    assert set(seen) == {"call"}
    seen.clear()
    run(watch, trace=True)
    assert set(seen) == {"measured"}


# --- what it tells


def test_a_chain_is_told_relative_to_its_value() -> None:
    grow = plugin("grow", "step", lambda run: ports.latents_out(lambda step, latents: latents * 1.25))
    keep = plugin("keep", "step", lambda run: ports.latents_out(lambda step, latents: None))
    trace = traced(grow, keep)
    found = {(row.plugin, row.step): row.change for row in rows(trace, "step.latents_out")}
    assert found == {
        (name, step): pytest.approx(value) for step in range(3) for name, value in (("grow", 0.25), ("keep", 0))
    }
    assert trace.who_changed_most() == "grow"
    assert [item.plugin for item in trace.changes()] == ["grow", "keep"]
    assert "grow 0.250 (step.latents_out" in str(trace)


def test_a_sum_is_told_relative_to_the_total() -> None:
    term = plugin("term", "step", lambda run: ports.guidance_terms(lambda step, predictions: 0.1 * seen(predictions)))

    def seen(predictions: Any) -> Any:
        cond, uncond = predictions["cond"], predictions["uncond"]
        return uncond + 3.0 * (cond - uncond)

    assert [row.change for row in rows(traced(term), "step.guidance_terms")] == [pytest.approx(0.1)] * 3


def test_an_around_is_told_by_what_came_back_or_by_what_it_passed_on() -> None:
    after = plugin("after", "step", lambda run: ports.scheduler_step(lambda args, call_next: call_next(args) * 1.5))
    before = plugin(
        "before",
        "step",
        lambda run: ports.unet_call(lambda inputs, call_next: call_next(inputs.replace(sample=inputs.sample * 0.5))),
    )
    alone = plugin("alone", "step", lambda run: ports.whole_step(lambda args, call_next: args.latents))
    assert [row.change for row in rows(traced(after), "step.scheduler_step")] == [pytest.approx(0.5)] * 3
    assert [row.change for row in rows(traced(before), "step.unet_call")] == [pytest.approx(0.5)] * 3
    assert [row.change for row in rows(traced(alone), "step.whole_step")] == [None] * 3


def test_an_around_that_calls_twice_is_told_against_its_first_call() -> None:
    def once_more(request: Any, call_next: Any) -> Any:
        call_next(request)
        return call_next(request.replace(prompt="a blue dog"))

    def other(request: Any, call_next: Any) -> Any:
        return call_next(request.replace(prompt="a blue dog"))

    again = plugin("again", "whole_run", lambda run: ports.whole_run(once_more))
    asks = plugin("asks", "whole_run", lambda run: ports.whole_run(other))
    change = [row.change for row in rows(traced(again), "whole_run.whole_run")]
    assert change[0] is not None
    assert change[0] > 0
    assert [row.change for row in rows(traced(asks), "whole_run.whole_run")] == [None]


def test_weights_are_told_relative_to_the_weight_at_their_strength() -> None:
    patch = plugin("patch", "weights", lambda run: ports.weights(WeightPatch("unet", KEY, lambda w: w, 0.5)))
    varying = plugin(
        "varying",
        "weights",
        lambda run: ports.weights(WeightPatch("unet", KEY, lambda w: w, lambda step, branch: 0.1 * (step.index + 1))),
    )
    (row,) = rows(traced(patch), "weights.weights")
    assert (row.stage, row.step, row.change) == ("unet", None, pytest.approx(0.5))
    steps = [row.change for row in rows(traced(varying), "weights.weights") if row.step is not None]
    assert steps == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]


@pytest.mark.parametrize("varies", [False, True])
def test_side_paths_are_told_with_their_strength_of_each_branch(varies: bool) -> None:
    module = KEY.removesuffix(".weight")
    original = model().unet.get_submodule(module)
    strength: Any = (lambda step, branch: 0.5 if branch.id == "cond" else 0.0) if varies else 0.5

    def same(hidden: Any) -> Any:
        return torch.nn.functional.linear(hidden, original.weight, original.bias)

    beside = plugin("beside", "weights", lambda run: ports.weights(SidePath(module, same, strength)))
    assert [row.change for row in rows(traced(beside), "weights.weights")] == [pytest.approx(0.5)] * 3


def test_residuals_are_told_relative_to_the_skip_connections() -> None:
    """What is added is twice what is there, as a stage at the skip connections sees it."""
    known: list[Any] = []

    def collect(call: Any, pair: Any) -> None:
        if call.step.index == 0:
            known.append(pair.skip.clone())

    run(plugin("look", "unet", lambda run: ports.skip(collect, sites=run.find_sites("skip"))))
    first = tuple(reversed(known))
    other = {"steps": 1}
    run_one = plugin(
        "twice", "step", lambda run: ports.unet_input(lambda i: i.add_residuals(tuple(2 * t for t in first)))
    )
    known.clear()
    run(plugin("look", "unet", lambda run: ports.skip(collect, sites=run.find_sites("skip"))), **other)
    first = tuple(reversed(known))
    (row,) = rows(traced(run_one, **other), "step.unet_input")
    assert row.change == pytest.approx(2.0, rel=1e-4)


def test_text_and_pictures_are_told() -> None:
    words = plugin("words", "text", lambda run: ports.prompt(lambda prompt: prompt.replace(positive="a red cat")))
    dark = plugin("dark", "decode", lambda run: ports.image(lambda picture, image: image.point(lambda v: v // 2)))
    trace = traced(words, dark)
    (text,), (picture,) = rows(trace, "text.prompt"), rows(trace, "decode.image")
    assert text.change is not None
    assert 0 < text.change < 1
    assert picture.change == pytest.approx(0.5, abs=0.02)


def test_time_is_each_ones_own() -> None:
    """The outer stage does nothing but wait for the rest; hooks and networks are there too."""
    outer = plugin("outer", "step", lambda run: ports.whole_step(lambda args, call_next: call_next(args)))
    trace = traced(outer)
    by_place = {(row.plugin, row.where): row for row in trace.totals()}
    assert by_place["outer", "step.whole_step"].seconds < by_place["core", "unet"].seconds
    assert by_place["outer", "step"].calls == 1
    assert by_place["core", "unet"].calls == 3
    assert sum(row.seconds for row in trace.rows) < trace.seconds
    waited = [span for span in trace.spans if span.where == "step.whole_step"]
    assert all(span.own < span.end - span.begin for span in waited)


def test_passes_are_counted_and_steps_told_apart() -> None:
    def twice(request: Any, call_next: Any) -> Any:
        call_next(request)
        return call_next(request.replace(steps=2))

    again = plugin("again", "whole_run", lambda run: ports.whole_run(twice))
    grow = plugin("grow", "step", lambda run: ports.latents_out(lambda step, latents: latents * 1.1))
    found = [(row.number, row.step) for row in rows(traced(again, grow), "step.latents_out")]
    assert found == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    traced(again, grow).picture()


def test_a_stage_that_never_ran_is_there() -> None:
    looks = plugin("looks", "step", lambda run: ports.preview(lambda step, x0: None))
    trace = traced(looks)
    (row,) = rows(trace, "step.preview")
    assert (row.calls, row.change) == (0, None)
    assert trace.who_changed_most() is None


def test_what_was_not_there_before_is_infinitely_changed_and_null_in_json() -> None:
    row = TraceRow("a", "1", "b.c", "chain", None, "f", 1, 0, 1, 1, 0.1, None, None, 2.0, 0.0)
    trace = Trace((row,), (), 1.0, "cpu", "")
    assert math.isinf(row.change or 0)
    assert json.loads(trace.to_json())["rows"][0]["change"] is None
    assert "new" in str(trace)
    trace.picture()


def test_a_trace_without_plugins_can_be_drawn() -> None:
    trace = traced()
    assert {row.plugin for row in trace.rows} == {"core"}
    trace.picture()
    assert "no plugin" in str(trace)


# --- errors


@pytest.mark.parametrize(
    ("hook", "port", "fails"),
    [
        ("step", ports.latents_out, lambda step, latents: 1 / 0),
        ("step", ports.latents_out, lambda step, latents: latents[:, :1]),
        ("step", ports.latents_out, lambda step, latents: latents.mul_(2)),
        ("step", ports.guidance_terms, lambda step, predictions: predictions["cond"][:1, :1]),
        ("step", ports.scheduler_step, lambda args, call_next: None),
        ("step", ports.unet_call, lambda args, call_next: call_next(args.replace(context=None))),
    ],
)
def test_errors_name_whom_they_name_without_a_trace(hook: str, port: Any, fails: Any) -> None:
    bad = plugin("bad", hook, lambda run: port(fails))
    outer = plugin("outer", "step", lambda run: ports.whole_step(lambda args, call_next: call_next(args)))
    told = []
    for trace in (False, True):
        with pytest.raises(PluginError) as caught:
            run(outer, bad, trace=trace)
        told.append((str(caught.value), caught.value.plugin, caught.value.step))
    assert told[0] == told[1]
    assert told[0][1] == "bad"
    assert not model().unet._forward_hooks
    assert run(trace=False).image.tobytes() == run(trace=True).image.tobytes()


def test_a_stream_is_traced_too() -> None:
    stream = Engine(model(), plugins=()).stream(**REQUEST, trace=True)
    events = list(stream)
    assert events[-1].result.trace is stream.result().trace is not None  # type: ignore[attr-defined]
