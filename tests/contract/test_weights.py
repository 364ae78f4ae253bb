"""Weights: patches and side paths do what weights edited by hand do, and are gone afterwards, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from sdcore import Branch, Cancelled, Engine, PluginError, Result, SidePath, Site, WeightPatch, Withheld, ports
from sdcore.models import load_model
from sdcore.order import Stage
from sdcore.ports import Port
from sdcore.testing.tiny import tiny_folder
from sdcore.unet import SiteContext
from sdcore.weights import WeightSession

from .kit import (
    FUNCTIONS,
    NEEDS,
    REQUEST,
    at,
    fingerprint,
    generate,
    is_blamed,
    model,
    plugin,
    same_pictures,
    seen,
    stage,
    watched,
)
from .test_unet_sites import MID, again

TO_K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TO_Q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "mid_block.resnets.0.conv1.weight"


def patched(*patches: Any, name: str = "lora") -> Any:
    return plugin(name, weights=lambda run: [ports.weights(patch) for patch in patches])


def change(scale: float) -> Callable[[Tensor], Tensor]:
    return lambda weight: torch.sin(weight * 7) * scale


@contextmanager
def edited(key: str, delta: Callable[[Tensor], Tensor], strength: float = 1.0, target: str = "unet") -> Iterator[None]:
    """A weight changed by hand."""
    weight = dict(model().components[target].named_parameters())[key]
    kept = weight.data.clone()
    weight.data = kept + strength * delta(kept)
    try:
        yield
    finally:
        weight.data = kept


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("unet", CONV),
        ("unet", f"{TO_K}.weight"),
        ("vae", "decoder.conv_out.weight"),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj.weight"),
    ],
)
def test_a_patch_is_an_edited_weight(target: str, key: str) -> None:
    names = dict(model().components[target].named_parameters())
    key = key if key in names else key.removeprefix("text_model.")
    plain, before = generate(), fingerprint(model())
    changed = generate(patched(WeightPatch(target, key, change(0.3), 0.5)))
    with edited(key, change(0.3), 0.5, target):
        by_hand = Engine(model(), plugins=[]).generate(**REQUEST)
    assert same_pictures(changed, by_hand)
    assert not same_pictures(changed, plain)
    assert fingerprint(model()) == before
    assert same_pictures(generate(), plain)


def test_sdxl_has_a_second_text_encoder() -> None:
    sdxl = model("sdxl")
    key = next(name for name, _ in sdxl.components["text_encoder_2"].named_parameters() if "q_proj.weight" in name)
    plain = generate(on=sdxl)
    assert not same_pictures(generate(patched(WeightPatch("text_encoder_2", key, change(0.5))), on=sdxl), plain)
    assert same_pictures(generate(on=sdxl), plain)


def test_texts_encoded_with_patched_encoders_are_not_kept() -> None:
    key = next(name for name, _ in model().text_encoders[0].named_parameters() if "q_proj.weight" in name)
    engine = Engine(model(), plugins=[patched(WeightPatch("text_encoder", key, change(0.5)))])
    changed = engine.generate(use=["lora"], **REQUEST)
    assert same_pictures(engine.generate(**REQUEST), generate())
    assert same_pictures(engine.generate(use=["lora"], **REQUEST), changed)


def test_two_patches_of_one_weight_are_summed() -> None:
    one = patched(WeightPatch("unet", CONV, change(0.3)), name="one")
    two = patched(WeightPatch("unet", CONV, change(-0.1), 2.0), name="two")
    with edited(CONV, lambda w: change(0.3)(w) + 2.0 * change(-0.1)(w)):
        by_hand = generate()
    both = generate(one, two)
    assert torch.allclose(both.latents, by_hand.latents, atol=1e-4)
    assert same_pictures(both, generate(two, one))


def test_the_sum_is_rounded_once_in_half_precision() -> None:
    unet = torch.nn.Linear(8, 8, dtype=torch.float16)
    original = unet.weight.data.clone()
    steps = [torch.full((8, 8), 0.0003, dtype=torch.float32)] * 4
    stages = [Stage(ports.weights, WeightPatch("unet", "weight", lambda w, d=d: d), "a", "1") for d in steps]
    session = WeightSession({"unet": unet}, stages, SiteContext())
    session.apply()
    assert torch.equal(unet.weight.data, (original.float() + 0.0012).half())
    session.restore()
    assert torch.equal(unet.weight.data, original)


# -- strengths that change ------------------------------------------------------------------------------


def test_a_strength_may_follow_the_steps() -> None:
    schedule = {0: 1.0, 1: 0.0, 2: 0.5}
    lora = patched(WeightPatch("unet", CONV, change(0.3), lambda step, branch: schedule[step.index]))
    with watched() as calls:
        generate(lora, steps=3)
    for index, call in enumerate(list(calls)):
        with edited(CONV, change(0.3), schedule[index]):
            assert torch.equal(again(call), call.output)


def test_branches_with_other_strengths_run_with_other_weights() -> None:
    def only_cond(step: Any, branch: Branch) -> float:
        return 1.0 if branch.id == "cond" else -0.5

    lora = patched(WeightPatch("unet", CONV, change(0.3), only_cond))
    with watched() as calls:
        generate(lora, count=2)
    assert [call.sample.shape[0] for call in calls] == [2, 2, 2, 2]
    for index, call in enumerate(list(calls)):
        with edited(CONV, change(0.3), -0.5 if index % 2 == 0 else 1.0):
            assert torch.equal(again(call), call.output)


def test_branches_with_the_same_strength_stay_one_batch() -> None:
    lora = patched(WeightPatch("unet", CONV, change(0.3), lambda step, branch: 0.5))
    with watched() as calls:
        result = generate(lora)
    assert [call.sample.shape[0] for call in calls] == [2, 2]
    assert same_pictures(result, generate(patched(WeightPatch("unet", CONV, change(0.3), 0.5))))


def test_a_weight_is_rewritten_only_when_its_strength_changes() -> None:
    asked: list[int] = []

    def delta(weight: Tensor) -> Tensor:
        asked.append(1)
        return torch.zeros_like(weight)

    generate(patched(WeightPatch("unet", CONV, delta, lambda step, branch: 1.0 + (step.index > 1))), steps=5)
    assert len(asked) == 3  # once to see that it works, then for either strength


def test_constant_and_changing_patches_of_one_weight_are_summed() -> None:
    lora = patched(
        WeightPatch("unet", CONV, change(0.3), 0.5),
        WeightPatch("unet", CONV, change(-0.2), lambda step, branch: float(step.index)),
    )
    with watched() as calls:
        generate(lora)
    for index, call in enumerate(list(calls)):
        with edited(CONV, lambda w, index=index: 0.5 * change(0.3)(w) + float(index) * change(-0.2)(w)):
            assert torch.allclose(again(call), call.output, atol=1e-5)


# -- keys and values that are kept ----------------------------------------------------------------------


def test_kept_keys_are_not_stale_after_a_weight_changed() -> None:
    schedule = {0: 0.0, 1: 3.0, 2: 3.0, 3: -2.0}
    lora = patched(WeightPatch("unet", f"{TO_K}.weight", change(0.5), lambda step, branch: schedule[step.index]))
    with watched() as calls, seen(model().unet.get_submodule(TO_K)) as keys:
        generate(lora, steps=4)
    assert len(keys) == 3
    for index, call in enumerate(list(calls)):
        with edited(f"{TO_K}.weight", change(0.5), schedule[index]):
            assert torch.equal(again(call), call.output)


def test_kept_keys_are_not_stale_for_branches_with_other_weights() -> None:
    patch = WeightPatch("unet", f"{TO_K}.weight", change(0.5), lambda step, branch: 3.0 if branch.id == "cond" else 0.0)
    with watched() as calls:
        generate(patched(patch), steps=2)
    for index, call in enumerate(list(calls)):
        with edited(f"{TO_K}.weight", change(0.5), 3.0 * (index % 2)):
            assert torch.equal(again(call), call.output)


def low_rank(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=generator) / 4, torch.randn(4, columns, generator=generator) / 4


@pytest.mark.parametrize("module", [TO_K, TO_Q, "mid_block.attentions.0.transformer_blocks.0.ff.net.2"])
def test_a_side_path_is_a_patched_weight(module: str) -> None:
    weight = model().unet.get_submodule(module).weight
    up, down = low_rank(*weight.shape)
    strength = {0: 2.0, 1: 0.0, 2: -1.0}
    path = SidePath(module, lambda hidden: hidden @ down.T @ up.T, lambda step, branch: strength[step.index])
    with watched() as calls:
        generate(patched(path), steps=3)
    for index, call in enumerate(list(calls)):
        with edited(f"{module}.weight", lambda w: up @ down, strength[index]):
            assert torch.allclose(again(call), call.output, atol=1e-5)
        if strength[index]:
            assert not torch.allclose(again(call), call.output, atol=1e-3)


def test_a_side_path_may_differ_by_branch_in_one_batch() -> None:
    up, down = low_rank(64, 64)
    path = SidePath(TO_K, lambda hidden: hidden @ down.T @ up.T, lambda s, branch: 2.0 if branch.id == "cond" else 0.5)
    with watched() as calls:
        generate(patched(path))
    assert [call.sample.shape[0] for call in calls] == [2, 2]
    for call in list(calls):
        for row, strength in ((0, 0.5), (1, 2.0)):
            with edited(f"{TO_K}.weight", lambda w: up @ down, strength):
                assert torch.allclose(again(call)[row], call.output[row], atol=1e-5)


def test_a_side_path_lies_beside_a_module_that_has_stages() -> None:
    """Beside an attention module, a resnet, the block: what the stages inside give, and the path's part on top."""
    attn, resnet = "mid_block.attentions.0.transformer_blocks.0.attn2", "mid_block.resnets.0"
    site, block = Site("mid", 0, 0, "resnet"), Site("mid", 0, 0, "block")
    modules = {attn: MID, resnet: site, "mid_block": block}
    for name, place in modules.items():
        port = ports.attention if place is MID else ports.block

        def double(args: Any, call_next: Any, port: Port[Any] = port) -> Any:
            found = call_next(args)
            return 2 * found if port is ports.attention else found.replace(hidden=2 * found.hidden)

        inside = stage("inside", port, double, sites=[place])
        module = model().unet.get_submodule(name)
        with seen(module) as alone:
            generate(inside, steps=1)
        with seen(module) as both:
            generate(inside, patched(SidePath(name, lambda hidden: torch.full_like(hidden, 0.5), 2.0)), steps=1)
        assert torch.equal(both[0][1], alone[0][1] + 1.0), name


def test_side_paths_leave_the_forwards_of_the_application() -> None:
    own = load_model(str(tiny_folder("sd1")))
    module, calls = own.unet.conv_out, []
    original = module.forward

    def theirs(hidden: Tensor) -> Tensor:
        calls.append(1)
        return original(hidden)

    module.forward = theirs
    changed = generate(patched(SidePath("conv_out", lambda hidden: hidden[:, :4], 0.5)), on=own)
    assert module.forward is theirs
    assert len(calls) == 2
    assert same_pictures(changed, generate(patched(SidePath("conv_out", lambda hidden: hidden[:, :4], 0.5))))


# -- undone, always -------------------------------------------------------------------------------------

LORA = (
    WeightPatch("unet", CONV, change(0.3)),
    WeightPatch("unet", f"{TO_K}.weight", change(0.3), lambda step, branch: 1.0 + (branch.id == "cond")),
    WeightPatch("vae", "decoder.conv_out.weight", change(0.3)),
    SidePath(TO_Q, lambda hidden: hidden * 0.5),
)


def attempt(engine: Engine, port: Port[Any]) -> Result:
    result = engine.generate(use=["lora", "bad"], **{**REQUEST, **NEEDS.get(port, {})})
    if port.hook == "output":
        result.pictures[0].encode()
    return result


@pytest.mark.parametrize("way", ["raise", "cancel", "interrupt"])
@pytest.mark.parametrize("port", FUNCTIONS, ids=str)
def test_everything_is_restored_after_a_failure_anywhere(port: Port[Any], way: str) -> None:
    runs: list[Any] = []

    def fail(*args: Any) -> Any:
        if way == "raise":
            raise ValueError("oh no")
        if way == "interrupt":
            raise KeyboardInterrupt
        runs[0].cancel()
        runs[0].check_cancelled()

    def hook(run: Any) -> Any:
        runs[:] = [run]
        return at(port, fail)(run)

    engine = Engine(model(), plugins=[patched(*LORA), plugin("bad", **{port.hook: hook})])
    before = fingerprint(model())
    expected = {"raise": (PluginError, Withheld), "cancel": Cancelled, "interrupt": KeyboardInterrupt}[way]
    with pytest.raises(expected) as caught:
        attempt(engine, port)
    assert not isinstance(caught.value, PluginError) or caught.value.plugin == "bad"
    assert fingerprint(model()) == before


def test_everything_is_restored_after_success_and_gives_the_same_again() -> None:
    before, engine = fingerprint(model()), Engine(model(), plugins=[patched(*LORA)])
    one, plain, two = (engine.generate(use=use, **REQUEST) for use in (["lora"], [], ["lora"]))
    assert same_pictures(one, two)
    assert not same_pictures(one, plain)
    assert same_pictures(plain, generate())
    assert fingerprint(model()) == before


# -- what is wrong with a patch -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (
            WeightPatch("unet", "conv_aut.bias", change(1)),
            r"no parameter 'conv_aut.bias'. Did you mean 'conv_out.bias'",
        ),
        (WeightPatch("text_encoder_2", "x", change(1)), "no 'text_encoder_2'; it has unet, vae, text_encoder"),
        (WeightPatch("unet", CONV, lambda w: w[:1]), "expected a tensor of the weight's shape"),
        (WeightPatch("unet", CONV, lambda w: None), "expected a tensor of the weight's shape"),  # type: ignore[arg-type, return-value]
        (WeightPatch("unet", CONV, lambda w: w.mul_(2)), "in place"),
        (WeightPatch("unet", CONV, lambda w: w[:1], lambda step, branch: 0.0), "the weight's shape"),
        (WeightPatch("unet", CONV, lambda w: w.mul_(2), lambda step, branch: 0.0), "in place"),
        (WeightPatch("vae", "decoder.conv_out.bias", change(1), lambda step, branch: 1.0), "must be a number"),
        (
            SidePath("mid_block.resnets.7", change(1)),
            r"no module 'mid_block.resnets.7'. Did you mean 'mid_block.resnets",
        ),
        (SidePath("conv_out", lambda hidden: hidden), "shape, dtype and device must stay"),
        (SidePath("conv_out", lambda hidden: hidden.mul_(2)), "in place"),
        (SidePath("down_blocks.0", lambda hidden: hidden), "does not return one tensor"),
        (lambda: None, "contributed function, expected WeightPatch or SidePath"),
    ],
)
def test_a_wrong_patch_names_the_plugin_and_changes_nothing(patch: Any, message: str) -> None:
    before = fingerprint(model())
    with pytest.raises(PluginError, match=message) as caught:
        generate(patched(WeightPatch("unet", "conv_out.bias", change(1)), patch))
    path = isinstance(patch, SidePath) and "no module" not in message
    is_blamed(caught.value, "lora", ports.weights, 0 if path else None)
    assert fingerprint(model()) == before
    assert same_pictures(generate(), generate())
