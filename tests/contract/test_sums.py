"""The law of sums: they are added or merged, in any order of use with the same result; None adds nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdcore import Branch, PluginError, Verdict, WeightPatch, Word, ports
from sdcore.ports import PORTS, Port
from sdcore.stages import SidePath

from .kit import FUNCTIONS, Predictions, generate, is_blamed, plugin, same_pictures, stage, watched

SUMS = tuple(port for port in PORTS if port.kind == "sum")


def term(scale: float) -> Callable[..., Tensor]:
    """Something that floating-point addition rounds."""
    return lambda step, predictions: torch.sin(predictions["cond"] * scale)


def added(scale: float) -> Callable[..., Tensor]:
    return lambda args: torch.sin(args.query * scale) / 3


def patch(scale: float) -> WeightPatch:
    return WeightPatch("unet", "mid_block.resnets.0.conv1.weight", lambda w: torch.sin(w * scale))


def beside(scale: float) -> SidePath:
    return SidePath("mid_block.attentions.0.proj_in", lambda hidden: torch.sin(hidden * scale))


def flag(name: str) -> Callable[..., Verdict]:
    return lambda *args: Verdict("flag", name, name)


VECTORS = torch.sin(torch.arange(128.0)).view(2, 64)
STAGES: dict[Port[Any], tuple[Any, Any]] = {
    ports.weights: (patch(3.1), patch(0.7)),
    ports.words: (Word("apple", (VECTORS,)), Word("<cat>", (VECTORS * 2,))),
    ports.branches: (lambda step: [Branch("one")], lambda step: [Branch("two"), Branch("one")]),
    ports.guidance_terms: (term(3.1), term(0.7)),
    ports.attention_add: (added(3.1), added(0.7)),
    ports.metadata: (lambda picture: {"x": 1}, lambda picture: {"x": 2}),
    ports.judge_prompt: (flag("one"), flag("two")),
    ports.judge_preview: (lambda step, x0: [Verdict("flag", "one")], lambda step, x0: [Verdict("flag", "two")]),
    ports.judge_image: (flag("one"), flag("two")),
}


def test_every_sum_is_tested() -> None:
    assert set(STAGES) == set(SUMS)


@pytest.mark.parametrize("port", SUMS, ids=str)
def test_two_plugins_commute_bit_for_bit(port: Port[Any]) -> None:
    one, two = (stage(name, port, fn) for name, fn in zip(("one", "two"), STAGES[port], strict=True))
    results = [generate(one, two), generate(two, one)]
    assert same_pictures(*results)
    assert results[0].reports == results[1].reports
    assert results[0].pictures[0].verdicts == results[1].pictures[0].verdicts


def test_three_paths_beside_one_module_commute() -> None:
    three = [stage(name, ports.weights, beside(scale)) for name, scale in (("a", 3.1), ("b", 0.7), ("c", 1.9))]
    assert same_pictures(generate(*three), generate(*three[::-1]))


def test_terms_are_added() -> None:
    plain, both = Predictions(), Predictions()
    generate(plain.plugin, steps=1)
    terms = [stage(name, ports.guidance_terms, fn) for name, fn in zip("ab", STAGES[ports.guidance_terms], strict=True)]
    with watched() as calls:
        generate(*terms, both.plugin, steps=1)
    cond = calls[0].output[1:]
    expected = plain.predictions[0] + torch.sin(cond * 3.1) + torch.sin(cond * 0.7)
    assert torch.equal(both.predictions[0], expected)


@pytest.mark.parametrize(
    "port",
    [pytest.param(port, id=str(port)) for port in SUMS if port in FUNCTIONS],
)
def test_none_adds_nothing(port: Port[Any]) -> None:
    met = []
    idle = generate(stage("a", port, lambda *args: met.append(1)))
    assert met
    assert same_pictures(idle, generate())
    assert idle.reports == [{}]


@pytest.mark.parametrize("bad", [lambda v: v[..., :-1], lambda v: v.double(), lambda v: 0.5, lambda v: v[None]])
def test_a_term_of_another_shape_is_an_error(bad: Callable[[Tensor], Any]) -> None:
    with pytest.raises(PluginError, match=r"shape, dtype and device must stay|returned float") as caught:
        generate(stage("bad", ports.guidance_terms, lambda step, predictions: bad(predictions["cond"])))
    is_blamed(caught.value, "bad", ports.guidance_terms, 0)
    with pytest.raises(PluginError, match=r"shape, dtype and device must stay|returned float") as caught:
        generate(stage("bad", ports.attention_add, lambda args: bad(args.query)))
    is_blamed(caught.value, "bad", ports.attention_add, 0)


def test_a_term_may_not_change_the_predictions() -> None:
    with pytest.raises(PluginError, match="in place") as caught:
        generate(stage("bad", ports.guidance_terms, lambda step, predictions: predictions["cond"].mul_(2)))
    is_blamed(caught.value, "bad", ports.guidance_terms, 0)
    with pytest.raises(PluginError, match="in place") as caught:
        generate(stage("bad", ports.attention_add, lambda args: args.value.mul_(2)))
    is_blamed(caught.value, "bad", ports.attention_add, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "expected a mapping"),
        ({"x": torch.zeros(1)}, "cannot be written as JSON"),
        ({"x": float("nan")}, "cannot be written as JSON"),
        ({"x": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_metadata_must_be_json(given: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        generate(stage("bad", ports.metadata, lambda picture: given))
    is_blamed(caught.value, "bad", ports.metadata, None)


def test_metadata_is_kept_apart_by_plugin() -> None:
    result = generate(
        *(stage(name, ports.metadata, lambda picture: {"seed": picture.seed}) for name in ("b", "a")), count=2
    )
    assert result.reports == [{"a": {"seed": 3}, "b": {"seed": 3}}, {"a": {"seed": 4}, "b": {"seed": 4}}]


def test_metadata_given_twice_under_one_key_is_an_error() -> None:
    twice = plugin("a", output=lambda run: [ports.metadata(lambda picture: {"x": 1})] * 2)
    with pytest.raises(PluginError, match="'x' twice") as caught:
        generate(twice)
    is_blamed(caught.value, "a", ports.metadata, None)


@pytest.mark.parametrize("given", ["cond", [1], 3, [Branch("a", tags=frozenset({"x"})), Branch("a")]])
def test_branches_must_be_branches_that_agree(given: Any) -> None:
    with pytest.raises(PluginError) as caught:
        generate(stage("bad", ports.branches, lambda step: given))
    is_blamed(caught.value, "bad", ports.branches, 0)
