"""Every port has an effect that can be measured, and that is gone when the engine does not look at the port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sdcore import Branch, Change, Problem, RequestError, Use, Verdict, WeightPatch, Withheld, Word, ports
from sdcore.errors import PluginError
from sdcore.events import Finished, Started, Stepped
from sdcore.order import Plan
from sdcore.picture_files import read_record
from sdcore.plugin import HOOKS
from sdcore.ports import PORTS, Port
from sdcore.schedulers import SchedulerSpec
from sdcore.stages import BlockOutput
from sdcore.unet import find_sites

from .kit import PICTURE, Predictions, generate, model, plugin, same_pictures, seen, stage, watched

EFFECTS: dict[Port[Any], Callable[[], None]] = {}


def effect(port: Port[Any]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def note(function: Callable[[], None]) -> Callable[[], None]:
        EFFECTS[port] = function
        return function

    return note


@effect(ports.whole_run)
def whole_run() -> None:
    def double(request: Any, call_next: Any) -> Any:
        output = call_next(request)
        return output.replace(latents=2 * output.latents)

    assert torch.equal(generate(stage("a", ports.whole_run, double)).latents, 2 * generate().latents)


@effect(ports.weights)
def weights() -> None:
    bias = model().unet.conv_out.bias
    patch = WeightPatch("unet", "conv_out.bias", lambda w: torch.full_like(w, 0.25), strength=2.0)
    patched = generate(stage("a", ports.weights, patch))
    kept = bias.data.clone()
    bias.data += 0.5
    by_hand = generate()
    bias.data.copy_(kept)
    assert same_pictures(patched, by_hand)
    assert not same_pictures(patched, generate())


@effect(ports.prompt)
def prompt() -> None:
    changed = generate(stage("a", ports.prompt, lambda p: p.replace(positive="a cat", negative="a dog")))
    assert same_pictures(changed, generate(prompt="a cat", negative_prompt="a dog"))
    assert not same_pictures(changed, generate())


@effect(ports.words)
def words() -> None:
    table = model().text_encoders[0].get_input_embeddings().weight
    ids = model().tokenizers[0](" red apple", add_special_tokens=False).input_ids
    word = Word("<Thing>", (table.data[ids],))
    used = generate(stage("a", ports.words, word), prompt="a <thing>, photo")
    assert same_pictures(used, generate(prompt="a red apple, photo"))
    assert not same_pictures(used, generate(prompt="a <thing>, photo"))


@effect(ports.token_embeddings)
def token_embeddings() -> None:
    doubled = generate(stage("a", ports.token_embeddings, lambda tokens, embeddings: 2 * embeddings))
    table = model().text_encoders[0].get_input_embeddings().weight
    table.data *= 2
    by_hand = generate()
    table.data /= 2
    assert same_pictures(doubled, by_hand)
    assert not same_pictures(doubled, generate())


@effect(ports.encode_text)
def encode_text() -> None:
    def other(args: Any, call_next: Any) -> Any:
        return call_next(args.replace(text="a cat") if args.branch == "cond" else args)

    changed = generate(stage("a", ports.encode_text, other))
    assert same_pictures(changed, generate(prompt="a cat"))
    assert not same_pictures(changed, generate())


@effect(ports.conditioning)
def conditioning() -> None:
    def halve(found: Any) -> Any:
        return {**found, "cond": found["cond"].replace(context=found["cond"].context / 2)}

    with watched() as plain:
        generate()
    with watched() as changed:
        generate(stage("a", ports.conditioning, halve))
    uncond, cond = plain[0].context
    assert torch.equal(changed[0].context, torch.stack([uncond, cond / 2]))


@effect(ports.encode_image)
def encode_image() -> None:
    fields = {"image": PICTURE, "strength": 0.0}  # no steps: the latents are those of the picture
    doubled = generate(stage("a", ports.encode_image, lambda args, call_next: 2 * call_next(args)), **fields)
    assert torch.equal(doubled.latents, 2 * generate(**fields).latents)


@effect(ports.noise)
def noise() -> None:
    with watched() as calls:
        generate(stage("a", ports.noise, lambda args: torch.full(args.shape, float(args.seed))), seed=7)
    assert torch.equal(calls[0].sample, torch.full((2, 4, 8, 8), 7.0))


@effect(ports.initial_latents)
def initial_latents() -> None:
    with watched() as calls:
        generate(stage("a", ports.initial_latents, lambda i: i.replace(latents=torch.full_like(i.latents, 0.25))))
    assert torch.equal(calls[0].sample, torch.full((2, 4, 8, 8), 0.25))


@effect(ports.sigmas)
def sigmas() -> None:
    changed = generate(stage("a", ports.sigmas, lambda s: (5.0, 1.0, 0.5)), scheduler="euler")
    assert same_pictures(changed, generate(scheduler="euler", sigmas=(5.0, 1.0, 0.5)))


@effect(ports.timesteps)
def timesteps() -> None:
    leaving: list[Tensor] = []
    generate(stage("a", ports.latents_out, lambda step, latents: leaving.append(latents)))
    with watched() as calls:
        shorter = generate(stage("a", ports.timesteps, lambda t: t[:-1]))
    assert len(calls) == 1
    assert torch.equal(shorter.latents, leaving[0])


@effect(ports.whole_step)
def whole_step() -> None:
    def midway(args: Any, call_next: Any) -> Any:
        return (call_next(args) + args.latents) / 2

    with watched() as calls:
        plain = generate(steps=1)
    assert torch.equal(
        generate(stage("a", ports.whole_step, midway), steps=1).latents, (plain.latents + calls[0].sample[:1]) / 2
    )


@effect(ports.latents_in)
def latents_in() -> None:
    with watched() as plain:
        generate()
    with watched() as changed:
        generate(stage("a", ports.latents_in, lambda step, latents: latents * (0.5 if step.index == 0 else 1)))
    assert torch.equal(changed[0].sample, plain[0].sample / 2)


@effect(ports.branches)
def branches() -> None:
    with watched() as calls:
        generate(stage("a", ports.branches, lambda step: [Branch("mine")] if step.index == 1 else []))
    assert [call.sample.shape[0] for call in calls] == [2, 3]


@effect(ports.unet_input)
def unet_input() -> None:
    calm = torch.zeros(1, 77, 64)
    with watched() as calls:
        generate(stage("a", ports.unet_input, lambda i: i.replace(context=calm.expand(2, -1, -1))))
    assert torch.equal(calls[1].context, torch.zeros(2, 77, 64))


@effect(ports.unet_call)
def unet_call() -> None:
    recorder = Predictions()
    with watched() as calls:
        generate(stage("a", ports.unet_call, lambda inputs, call_next: torch.ones_like(inputs.sample)), recorder.plugin)
    assert calls == []
    assert all(torch.equal(found, torch.ones(1, 4, 8, 8)) for found in recorder.predictions)


@effect(ports.guidance)
def guidance() -> None:
    recorder = Predictions()
    with watched() as calls:
        generate(stage("a", ports.guidance, lambda step, p: p["uncond"] - p["cond"]), recorder.plugin)
    uncond, cond = calls[0].output.chunk(2)
    assert torch.equal(recorder.predictions[0], uncond - cond)


@effect(ports.guidance_terms)
def guidance_terms() -> None:
    plain, changed = Predictions(), Predictions()
    generate(plain.plugin)
    generate(stage("a", ports.guidance_terms, lambda step, p: 0.5 * p["cond"]), changed.plugin)
    with watched() as calls:
        generate()
    assert torch.equal(changed.predictions[0], plain.predictions[0] + 0.5 * calls[0].output[1:])


@effect(ports.prediction)
def prediction() -> None:
    plain, changed = Predictions(), Predictions()
    generate(plain.plugin)
    generate(stage("a", ports.prediction, lambda step, value, p: value / 2), changed.plugin)
    assert torch.equal(changed.predictions[0], plain.predictions[0] / 2)


@effect(ports.scheduler_step)
def scheduler_step() -> None:
    plus = generate(stage("a", ports.scheduler_step, lambda args, call_next: call_next(args) + 1), steps=1)
    assert torch.equal(plus.latents, generate(steps=1).latents + 1)


@effect(ports.latents_out)
def latents_out() -> None:
    doubled = generate(stage("a", ports.latents_out, lambda step, latents: 2 * latents), steps=1)
    assert torch.equal(doubled.latents, 2 * generate(steps=1).latents)


MID = next(site for site in find_sites(model().unet) if (site.kind, site.block) == ("cross", "mid"))


def joined(port: Port[Any] | None = None, fn: Any = None) -> Tensor:
    """What attention puts into its output projection at the cross site of the middle block, with a stage there."""
    with seen(find_sites(model().unet)[MID].to_out[0]) as found:
        generate(*([] if port is None else [stage("a", port, fn, sites=[MID])]))
    return found[0][0]


@effect(ports.attention_qkv)
def attention_qkv() -> None:
    halved = joined(ports.attention_qkv, lambda args: args.replace(value=args.value / 2))
    assert torch.equal(halved, joined() / 2)


@effect(ports.attention)
def attention() -> None:
    doubled = joined(ports.attention, lambda args, call_next: 2 * call_next(args))
    assert torch.equal(doubled, 2 * joined())


@effect(ports.attention_add)
def attention_add() -> None:
    added = joined(ports.attention_add, lambda args: torch.full_like(args.query, 0.5))
    assert torch.equal(added, joined() + 0.5)


@effect(ports.attention_probs)
def attention_probs() -> None:
    values: list[Tensor] = []

    def first_key(args: Any, probabilities: Tensor) -> Tensor:
        values.append(args.value)
        only = torch.zeros_like(probabilities)
        only[..., 0] = 1
        return only

    found = joined(ports.attention_probs, first_key)
    expected = values[0][:, :, :1].expand(-1, -1, found.shape[1], -1).transpose(1, 2).flatten(2)
    assert torch.equal(found, expected)


@effect(ports.block_output)
def block_output() -> None:
    with seen(model().unet.up_blocks[0]) as plain:
        generate()
    with seen(model().unet.up_blocks[0]) as changed:
        generate(stage("a", ports.block_output, lambda call, hidden: 2 * hidden))  # of the middle block
    assert torch.equal(changed[0][0], 2 * plain[0][0])


@effect(ports.skip)
def skip() -> None:
    norm = model().unet.up_blocks[0].resnets[0].norm1
    with seen(norm) as plain:
        generate()
    with seen(norm) as changed:
        generate(stage("a", ports.skip, lambda call, pair: pair.replace(skip=pair.skip / 2)))
    hidden, joint = plain[0][0].split([64, 64], dim=1)
    assert torch.equal(changed[0][0], torch.cat([hidden, joint / 2], dim=1))


@effect(ports.block)
def block() -> None:
    unet = model().unet
    with seen(unet.mid_block) as into, seen(unet.up_blocks[0]) as after:
        generate(stage("a", ports.block, lambda args, call_next: BlockOutput(args.hidden)))  # left out
    assert torch.equal(into[0][0], after[0][0])


@effect(ports.decode)
def decode() -> None:
    white = generate(stage("a", ports.decode, lambda args, call_next: torch.ones(1, 3, 32, 32)))
    assert white.image.getextrema() == ((255, 255),) * 3


@effect(ports.image)
def image() -> None:
    red = generate(stage("a", ports.image, lambda picture, image: Image.new("RGB", image.size, "red")))
    assert red.image.getextrema() == ((255, 255), (0, 0), (0, 0))


@effect(ports.metadata)
def metadata() -> None:
    result = generate(stage("a", ports.metadata, lambda picture: {"seed twice": 2 * picture.seed}))
    assert result.reports == [{"a": {"seed twice": 6}}]
    assert result.record.metadata == {"a": {"seed twice": 6}}


@effect(ports.serialize)
def serialize() -> None:
    result = generate(stage("a", ports.serialize, lambda args: f"{args.format} {args.image.size}".encode()))
    assert result.pictures[0].encode("webp") == b"webp (32, 32)"


@effect(ports.seal)
def seal() -> None:
    given: list[bytes] = []

    def close(args: Any, data: bytes) -> bytes:
        given.append(data)
        return data + b"sealed"

    picture = generate(stage("a", ports.seal, close)).pictures[0]
    assert picture.encode() == given[0] + b"sealed"
    assert given[0].startswith(b"\x89PNG")


@effect(ports.judge_prompt)
def judge_prompt() -> None:
    check = stage(
        "a", ports.judge_prompt, lambda p: Verdict("withhold", "no apples") if "apple" in p.positive else None
    )
    with watched() as calls, pytest.raises(Withheld, match="no apples"):
        generate(check)
    assert calls == []
    generate(check, prompt="a cat")


@effect(ports.preview)
def preview() -> None:
    def seen_by(*plugins: Any) -> list[bytes]:
        shown: list[bytes] = []

        def look(event: Any) -> None:
            if isinstance(event, Stepped):
                shown.extend(image.tobytes() for image in event.preview())

        result = generate(*plugins, on_event=look)
        assert same_pictures(result, generate())  # only what is shown is another
        return shown

    changed = seen_by(stage("a", ports.preview, lambda step, x0: x0 * 0.5))
    assert len(changed) == len(seen_by()) == 2
    assert changed != seen_by()

    judged: list[Any] = []
    check = stage("check", ports.judge_preview, lambda step, x0: judged.append(x0))

    def coarsen(step: Any, x0: Any) -> Any:
        return x0.mean((2, 3), keepdim=True).expand_as(x0)

    coarse = seen_by(check, stage("a", ports.preview, coarsen, phase="show"))
    assert coarse not in (seen_by(), changed)
    assert all(x0.std((2, 3)).min() > 0.01 for x0 in judged)  # checks still see what is coming


@effect(ports.judge_preview)
def judge_preview() -> None:
    check = stage("a", ports.judge_preview, lambda step, x0: [Verdict("withhold", f"seen at {step.index}")])
    with watched() as calls, pytest.raises(Withheld, match="seen at 0"):
        generate(check)
    assert len(calls) == 1


@effect(ports.judge_image)
def judge_image() -> None:
    check = stage("a", ports.judge_image, lambda picture, image: Verdict("withhold", f"{image.size}"))
    with pytest.raises(Withheld, match=r"\(32, 32\)"):
        generate(check)


@pytest.mark.parametrize("port", PORTS, ids=str)
def test_it_has_an_effect(port: Port[Any]) -> None:
    assert port in EFFECTS, f"write down what {port} does"
    EFFECTS[port]()


@pytest.mark.parametrize("port", PORTS, ids=str)
def test_the_effect_is_gone_when_the_engine_ignores_the_port(port: Port[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    look, claimed = Plan.__getitem__, Plan.claimed

    def ignoring(self: Plan, wanted: Port[Any]) -> Any:
        if wanted is not port:
            return look(self, wanted)
        return (self._defaults[port],) if port in self._defaults else ()

    monkeypatch.setattr(Plan, "__getitem__", ignoring)
    monkeypatch.setattr(Plan, "claimed", lambda self, wanted: wanted is not port and claimed(self, wanted))
    with pytest.raises((AssertionError, pytest.fail.Exception, IndexError)):
        EFFECTS[port]()


# -- the hooks that contribute no stages ----------------------------------------------------------------


def test_every_hook_has_ports_or_a_test_here() -> None:
    assert {port.hook for port in PORTS} | {"register", "plan", "observe"} == set(HOOKS)


def test_register_adds_a_scheduler_that_requests_can_name() -> None:
    spec = SchedulerSpec("diffusers:EulerDiscreteScheduler", {"use_karras_sigmas": True})
    mine = plugin("a", register=lambda registry: registry.add("scheduler", "mine", spec))
    assert same_pictures(generate(mine, scheduler="mine"), generate(scheduler="euler-karras"))
    with pytest.raises(RequestError, match="mine"):
        generate(scheduler="mine")


def test_plan_changes_the_request() -> None:
    longer = plugin("a", plan=lambda run: [Change(steps=3, guidance_scale=1.0)])
    with watched() as calls:
        result = generate(longer)
    assert (len(calls), result.request.steps) == (3, 3)
    assert same_pictures(result, generate(steps=3, guidance_scale=1.0))
    single = plugin("a", plan=lambda run: Change(height=48))
    assert generate(single).image.size == (32, 48)


def test_plan_reports_all_problems_of_all_plugins_at_once() -> None:
    one = plugin("one", plan=lambda run: [Problem("no sky"), Problem("no sea")])
    two = plugin("two", plan=lambda run: Problem(f"{run.request.steps} steps are too few"))
    with watched() as calls, pytest.raises(RequestError, match=r"one: no sky; one: no sea; two: 2 steps are too few"):
        generate(one, two)
    assert calls == []


def test_plan_refuses_two_plugins_that_want_different_values() -> None:
    one, two = plugin("one", plan=lambda run: Change(steps=4)), plugin("two", plan=lambda run: Change(steps=5))
    with pytest.raises(RequestError, match=r"one needs steps=4, two needs steps=5"):
        generate(one, two)
    assert generate(one, plugin("two", plan=lambda run: Change(steps=4))).request.steps == 4


@pytest.mark.parametrize("given", ["text", 3, [3], {"steps": 3}, Change(stepps=3), Change(seed=3), Change(steps=0)])
def test_plan_refuses_what_is_neither_problem_nor_change(given: Any) -> None:
    with pytest.raises(PluginError, match="'a'") as caught:
        generate(plugin("a", plan=lambda run: given))
    assert (caught.value.plugin, caught.value.where) == ("a", "plan")


def test_plan_can_forbid_previews() -> None:
    previews: list[int] = []

    def look(event: Any) -> None:
        if isinstance(event, Stepped):
            previews.append(len(event.preview()))

    generate(on_event=look)
    generate(plugin("a", plan=lambda run: Change(previews=False)), on_event=look)
    assert previews == [1, 1, 0, 0]


def test_observe_sees_every_event_in_the_order_of_use_and_only_when_used() -> None:
    seen_by: list[tuple[str, str]] = []
    two = [
        plugin(name, observe=lambda event, name=name: seen_by.append((name, type(event).__name__)))  # type: ignore[misc]
        for name in ("b", "a")
    ]
    generate(*two)
    kinds = [Started.__name__, Stepped.__name__, Stepped.__name__, Finished.__name__]
    assert seen_by == [(name, kind) for kind in kinds for name in ("b", "a")]
    seen_by.clear()
    generate(*two, use=[Use(plugin="a")])
    assert {name for name, _ in seen_by} == {"a"}


# -- effects that need a family of their own ------------------------------------------------------------


def test_conditioning_of_sdxl_has_pooled_text_and_sizes() -> None:
    def move(found: Any) -> Any:
        cond = found["cond"]
        return {**found, "cond": cond.replace(pooled=2 * cond.pooled, time_ids=cond.time_ids + 8)}

    sdxl = model("sdxl")
    with watched(sdxl) as plain:
        generate(on=sdxl)
    with watched(sdxl) as changed:
        generate(stage("a", ports.conditioning, move), on=sdxl)
    before, after = plain[0].kwargs["added_cond_kwargs"], changed[0].kwargs["added_cond_kwargs"]
    assert torch.equal(after["text_embeds"][1], 2 * before["text_embeds"][1])
    assert torch.equal(after["text_embeds"][0], before["text_embeds"][0])
    assert torch.equal(after["time_ids"], before["time_ids"] + torch.tensor([[0.0], [8.0]]))


def test_encode_text_is_called_for_each_encoder_and_branch() -> None:
    asked: list[tuple[int, str, str]] = []

    def note(args: Any, call_next: Any) -> Any:
        asked.append((args.encoder, args.branch, args.text))
        return call_next(args)

    generate(stage("a", ports.encode_text, note), on=model("sdxl"), negative_prompt="a dog")
    assert sorted(asked) == sorted(
        (encoder, branch, text) for encoder in (0, 1) for branch, text in (("cond", "a red apple"), ("uncond", "a dog"))
    )


def test_initial_latents_of_a_picture_has_its_clean_latents_and_the_noise() -> None:
    found: list[Any] = []
    fields = {"image": PICTURE, "strength": 0.5, "steps": 4}
    with watched() as calls:
        generate(stage("a", ports.initial_latents, found.append), **fields)
    (initial,) = found
    assert torch.equal(initial.latents, initial.add_noise(initial.image, initial.noise))
    assert torch.equal(calls[0].sample[:1], initial.latents)
    found.clear()
    generate(stage("a", ports.initial_latents, found.append))
    assert found[0].image is None
    assert torch.equal(found[0].noise, found[0].latents)  # ddim begins with unit variance


def test_noise_has_one_claimant_that_is_asked_picture_by_picture() -> None:
    asked: list[tuple[int, int]] = []

    def same_for_all(args: Any) -> Tensor:
        asked.append((args.index, args.seed))
        return torch.randn(args.shape, generator=torch.Generator().manual_seed(3))

    result = generate(stage("a", ports.noise, same_for_all), count=2, seed=5)
    assert asked == [(0, 5), (1, 6)]
    assert torch.equal(result.latents[0], result.latents[1])
    assert torch.allclose(result.latents[:1], generate(seed=3).latents, atol=1e-5)


@pytest.mark.parametrize(
    "scheduler", ["euler", "euler-karras", "dpmpp-2m", "heun", "pndm", "unipc", "lms", "deis", "dpm2"]
)
@pytest.mark.parametrize("port", [ports.whole_step, ports.scheduler_step], ids=str)
def test_a_step_can_be_repeated_with_a_scheduler_that_counts(port: Port[Any], scheduler: str) -> None:
    """Going a step again from the same latents gives the same, also where the scheduler keeps count and history."""
    same: list[bool] = []

    def twice(args: Any, call_next: Any) -> Tensor:
        first, again = call_next(args), call_next(args)
        same.append(torch.equal(first, again))
        return again  # type: ignore[no-any-return]

    result = generate(stage("a", port, twice), scheduler=scheduler, steps=4)
    assert all(same)
    assert same_pictures(result, generate(scheduler=scheduler, steps=4))


def test_reports_and_record_survive_the_file() -> None:
    result = generate(stage("a", ports.metadata, lambda picture: {"list": (1, 2.5, None, {"deep": True})}))
    record = read_record(result.pictures[0].encode())
    assert record.metadata == {"a": {"list": [1, 2.5, None, {"deep": True}]}}
