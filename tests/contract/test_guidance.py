"""Branches, guidance, predictions: computed once, as one batch, with arithmetic that can be checked by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdcore import Branch, Cancelled, PluginError, RequestError, Verdict, ports

from .kit import Predictions, fingerprint, generate, is_blamed, model, plugin, same_pictures, stage, watched

PERTURBED = Branch("perturbed", tags=frozenset({"perturbed"}))


def blind(args: Any) -> Any:
    """Perturbed-attention guidance in small: the rows of tagged branches see only themselves."""
    value = args.value
    for branch in args.branches:
        if "perturbed" in branch.tags:
            value = value.clone()
            value[args.rows[branch.id]] = 0
    return args.replace(value=value)


def guide(name: str, scale: float) -> Any:
    """A plugin that wants a branch and pushes away from it."""

    def hook(run: Any) -> Any:
        yield ports.branches(lambda step: [PERTURBED])
        yield ports.guidance_terms(lambda step, p: scale * (p["cond"] - p["perturbed"]))

    return plugin(name, step=hook)


def sites(run: Any) -> Any:
    return ports.attention_qkv(blind, sites=run.find_sites("self", "mid"))


def test_two_plugins_share_a_branch_of_the_same_id() -> None:
    tags = plugin("tags", unet=sites)
    with watched() as calls:
        generate(guide("one", 0.5), guide("two", 0.25), tags)
    assert [call.sample.shape[0] for call in calls] == [3, 3]  # uncond, cond, and one perturbed
    with watched() as calls:
        generate(guide("one", 0.5), guide("two", 0.25), tags, count=2)
    assert [call.sample.shape[0] for call in calls] == [6, 6]


def test_two_guidances_add_up_to_what_one_batch_gives() -> None:
    plain, both = Predictions(), Predictions()
    generate(plain.plugin, steps=1)
    with watched() as calls:
        generate(guide("one", 0.5), guide("two", 0.25), plugin("tags", unet=sites), both.plugin, steps=1)
    uncond, cond, perturbed = calls[0].output.chunk(3)
    expected = uncond + 3.0 * (cond - uncond) + 0.5 * (cond - perturbed) + 0.25 * (cond - perturbed)
    assert torch.equal(both.predictions[0], expected)
    assert torch.allclose(plain.predictions[0], uncond + 3.0 * (cond - uncond), atol=1e-5)
    assert not torch.allclose(perturbed, cond, atol=1e-3)


def test_tags_are_seen_at_the_sites_and_untagged_rows_are_not_touched() -> None:
    with watched() as plain:
        generate(steps=1)
    with watched() as calls:
        generate(guide("one", 0.0), plugin("tags", unet=sites), steps=1)
    assert torch.allclose(calls[0].output[:2], plain[0].output, atol=1e-5)


def test_a_branch_can_have_a_conditioning_of_its_own() -> None:
    def hook(run: Any) -> Any:
        def wanted(step: Any) -> Iterable[Branch]:
            uncond = run.conditioning["uncond"]
            return [Branch("double", uncond.replace(context=2 * uncond.context)), Branch("again")]

        return ports.branches(wanted)

    with watched() as calls:
        generate(plugin("a", step=hook))
    for call in calls:
        uncond, cond, double, again = call.context
        assert torch.equal(double, 2 * uncond)
        assert torch.equal(again, cond)  # without one of its own: that of the prompt


def test_a_branch_of_its_own_conditioning_works_with_sdxl() -> None:
    sdxl = model("sdxl")

    def hook(run: Any) -> Any:
        small = run.conditioning  # not filled yet: the stage looks when it is called
        assert small == {}

        def wanted(step: Any) -> Iterable[Branch]:
            cond = run.conditioning["cond"]
            return [Branch("small", cond.replace(time_ids=torch.zeros_like(cond.time_ids)))]

        return ports.branches(wanted)

    with watched(sdxl) as calls:
        generate(plugin("a", step=hook), on=sdxl)
    added = calls[0].kwargs["added_cond_kwargs"]
    assert torch.equal(added["time_ids"][2], torch.zeros(6))
    assert torch.equal(added["time_ids"][1], torch.tensor([32.0, 32.0, 0.0, 0.0, 32.0, 32.0]))
    assert torch.equal(added["text_embeds"][2], added["text_embeds"][1])


def test_branches_that_come_and_go_with_the_steps() -> None:
    often = stage("a", ports.branches, lambda step: [PERTURBED] if step.index % 2 else None)
    with watched() as calls:
        generate(often, steps=4)
    assert [call.sample.shape[0] for call in calls] == [2, 3, 2, 3]


def test_a_guidance_may_ask_for_one_branch_only() -> None:
    def hook(run: Any) -> Any:
        yield ports.branches(lambda step: [Branch("cond")])
        yield ports.guidance(lambda step, predictions: predictions["cond"])

    with watched() as calls:
        result = generate(plugin("a", step=hook))
    assert [call.sample.shape[0] for call in calls] == [1, 1]
    assert same_pictures(result, generate(guidance_scale=1.0))


def test_a_guidance_without_branches_gets_those_of_the_request() -> None:
    given: list[list[str]] = []

    def look(step: Any, predictions: Any) -> Tensor:
        given.append(list(predictions))
        cond: Tensor = predictions["cond"]
        return cond

    generate(stage("a", ports.guidance, look))
    generate(stage("a", ports.guidance, look), guidance_scale=1.0)
    assert given == [["uncond", "cond"]] * 2 + [["cond"]] * 2


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp-2m", "pndm"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_prediction_spaces_are_exact(scheduler: str, kind: str) -> None:
    """x0 and noise as stages see them solve latents = alpha * x0 + sigma * noise, and come back as they were."""
    own = model("sd2", prediction_type=kind)
    seen: list[tuple[Any, str, Tensor]] = []
    recorder, idle = Predictions("recorder"), Predictions("idle")

    def space(phase: str) -> Any:
        def look(step: Any, value: Tensor, predictions: Any) -> Tensor:
            seen.append((step, phase, value))
            return value.clone()

        return ports.prediction(look, phase=phase)

    both = plugin("spaces", step=lambda run: [space("rescale"), space("epsilon"), space("x0")])
    generate(both, recorder.plugin, on=own, scheduler=scheduler)
    generate(idle.plugin, on=own, scheduler=scheduler)
    assert [phase for _, phase, _ in seen[:3]] == ["x0", "epsilon", "rescale"]
    for index in range(2):
        (step, _, x0), (_, _, epsilon), (_, _, output) = seen[3 * index : 3 * index + 3]
        latents = recorder.latents[index]
        assert torch.allclose(step.alpha * x0 + step.sigma * epsilon, latents, atol=1e-4 * step.sigma, rtol=1e-4)
        assert torch.allclose(output, idle.predictions[index], atol=1e-3, rtol=1e-3)
        if kind == "epsilon":
            assert torch.allclose(epsilon, output, atol=1e-3, rtol=1e-3)
        elif step.alpha < 1:  # variance preserving: v = alpha * noise - sigma * x0
            assert torch.allclose(step.alpha * epsilon - step.sigma * x0, output, atol=1e-3, rtol=1e-3)


def test_a_threshold_in_x0_space_comes_before_the_rescale_of_the_request() -> None:
    """6.4: dynamic thresholds before rescale, rescale after all terms."""
    log: list[str] = []
    recorder = Predictions()

    def clamp(step: Any, x0: Tensor, predictions: Any) -> Tensor:
        log.append("x0")
        return x0.clamp(-1, 1)

    def term(step: Any, predictions: Any) -> Tensor:
        log.append("term")
        return torch.zeros_like(predictions["cond"])

    plugins = [stage("a", ports.prediction, clamp, phase="x0"), stage("b", ports.guidance_terms, term)]
    generate(*plugins, recorder.plugin, guidance_rescale=1.0)
    assert log == ["term", "x0"] * 2
    with watched() as calls:
        generate(*plugins, guidance_rescale=1.0)
    # At full rescale the deviation is that of the conditional prediction, whatever came before.
    for call, prediction in zip(calls, recorder.predictions, strict=True):
        cond = call.output[1:]
        assert torch.allclose(prediction.std(dim=[1, 2, 3]), cond.std(dim=[1, 2, 3]), rtol=1e-4)


def test_blending_is_after_the_scheduler_and_before_the_preview() -> None:
    """6.4: a mask is blended in at latents_out, and the event that follows sees it."""
    recorder = Predictions()
    left: list[Tensor] = []

    def blend(step: Any, latents: Tensor) -> Tensor:
        left.append(torch.where(torch.arange(8) < 4, torch.zeros_like(latents), latents))
        return left[-1]

    result = generate(recorder.plugin, stage("mask", ports.latents_out, blend))
    assert torch.equal(result.latents, left[-1])
    assert torch.equal(recorder.latents[1], left[0])


def test_numbers_of_a_step_are_on_the_host_and_true() -> None:
    steps: list[Any] = []
    generate(stage("a", ports.latents_in, lambda step, latents: steps.append(step)), steps=4)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.count for step in steps} == {4}
    assert [step.fraction for step in steps] == [0, 0.25, 0.5, 0.75]
    for step in steps:
        assert all(type(number) is float for number in (step.alpha, step.sigma)), "no device scalars"
        assert isinstance(step.timestep, int | float)
        assert step.alpha**2 + step.sigma**2 == pytest.approx(1)


@pytest.mark.parametrize("order", [("cache", "control"), ("control", "cache")])
def test_caching_is_outside_what_controls_the_unet(order: tuple[str, str]) -> None:
    """6.4: a cache at unet_call sees the residuals that unet_input has added, whoever is named first."""
    inputs: list[Any] = []

    def cache(given: Any, call_next: Any) -> Tensor:
        inputs.append(given)
        output: Tensor = call_next(given)
        return output

    control = stage("control", ports.unet_input, lambda i: i.add_residuals(mid=torch.ones(2, 64, 2, 2)))
    plugins = {"control": control, "cache": stage("cache", ports.unet_call, cache)}
    generate(*(plugins[name] for name in order))
    assert all(torch.equal(given.mid_residual, torch.ones(2, 64, 2, 2)) for given in inputs)


def test_contexts_of_other_lengths_are_an_error_that_says_so() -> None:
    def hook(run: Any) -> Any:
        def wanted(step: Any) -> Iterable[Branch]:
            cond = run.conditioning["cond"]
            return [Branch("short", cond.replace(context=cond.context[:, :10]))]

        return ports.branches(wanted)

    with pytest.raises(RequestError, match=r"uncond 77, cond 77, short 10\)"):
        generate(plugin("a", step=hook))


def test_no_branch_at_all_is_an_error() -> None:
    def hook(run: Any) -> Any:
        yield ports.branches(lambda step: [])
        yield ports.guidance(lambda step, predictions: predictions["cond"])

    with pytest.raises(PluginError, match="no branch was asked for") as caught:
        generate(plugin("a", step=hook))
    is_blamed(caught.value, "a", ports.guidance, 0)


def test_an_input_that_the_unet_cannot_use_names_who_made_it() -> None:
    before = fingerprint(model())
    fine = stage("fine", ports.unet_input, lambda inputs: inputs.replace())
    control = stage("control", ports.unet_input, lambda inputs: inputs.add_residuals(mid=torch.ones(2, 64, 3, 3)))
    with pytest.raises(
        PluginError, match="cannot use what 'fine' and 'control' made of its input: RuntimeError"
    ) as caught:
        generate(fine, control)
    is_blamed(caught.value, "control", ports.unet_input, 0)
    assert fingerprint(model()) == before


def test_cancelling_is_seen_before_every_call_of_the_unet() -> None:
    def tiles(args: Any, call_next: Any) -> Tensor:
        args.step.run.cancel()
        for _ in range(3):
            latents = call_next(args)
        return latents  # type: ignore[no-any-return]

    with watched() as calls, pytest.raises(Cancelled):
        generate(stage("a", ports.whole_step, tiles))
    assert calls == []


def test_previews_are_judged_also_where_a_stage_did_the_step_by_itself() -> None:
    shapes: list[tuple[int, ...]] = []

    def halves(args: Any, call_next: Any) -> Tensor:
        parts = [call_next(args.replace(latents=part.contiguous())) for part in args.latents.split(4, dim=-1)]
        return torch.cat(parts, dim=-1)

    def look(step: Any, x0: Tensor) -> list[Verdict | None]:
        shapes.append(tuple(x0.shape))
        return [None]

    judge = stage("judge", ports.judge_preview, look)
    generate(judge, stage("tiles", ports.whole_step, halves))
    generate(judge, stage("skip", ports.whole_step, lambda args, call_next: args.latents))
    assert shapes == [(1, 4, 8, 8)] * 4
