"""The law of choices: one claimant takes the default's place, a second is an error before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sdcore import ConflictError, Engine, PluginError, Use, ports
from sdcore.ports import PORTS, Port

from .kit import REQUEST, generate, is_blamed, model, plugin, same_pictures, stage, watched

CHOICES = tuple(port for port in PORTS if port.kind == "choose")
STAGES: dict[Port[Any], Any] = {
    ports.noise: lambda args: torch.randn(args.shape, generator=args.generator) / 2,
    ports.guidance: lambda step, predictions: predictions["cond"],
    ports.serialize: lambda args: b"file",
    ports.seal: lambda args, data: data + b"seal",
}


def test_every_choice_is_tested() -> None:
    assert set(STAGES) == set(CHOICES)


@pytest.mark.parametrize("port", CHOICES, ids=str)
def test_two_claimants_are_an_error_that_names_both_before_the_run(port: Port[Any]) -> None:
    plugins = [stage(name, port, STAGES[port]) for name in ("one", "two")]
    with watched() as calls, pytest.raises(ConflictError, match=f"'one' .*'two' .*both claim {port}"):
        generate(*plugins)
    assert calls == []
    with pytest.raises(ConflictError, match="both claim"):
        Engine(model(), plugins=plugins).explain(use=[Use(plugin="two"), Use(plugin="one")], **REQUEST)
    generate(*plugins, use=[Use(plugin="two")])  # installed is not active


@pytest.mark.parametrize("port", CHOICES, ids=str)
def test_a_plugin_that_claims_twice_is_told_so(port: Port[Any]) -> None:
    twice = plugin("a", **{port.hook: lambda run: [port(STAGES[port])] * 2})
    with pytest.raises(ConflictError, match=f"plugin 'a' .*claims twice {port}"):
        generate(twice)


@pytest.mark.parametrize("port", CHOICES, ids=str)
def test_one_claimant_takes_the_place_of_the_default(port: Port[Any]) -> None:
    claimed, plain = generate(stage("a", port, STAGES[port])), generate()
    if port.hook == "output":
        assert claimed.pictures[0].encode() != plain.pictures[0].encode()
        assert same_pictures(claimed, plain)
    else:
        assert not same_pictures(claimed, plain)


def test_explain_says_who_has_it_and_that_it_is_the_default() -> None:
    engine = Engine(model(), plugins=[stage("mine", ports.guidance, STAGES[ports.guidance])])
    (row,) = [row for row in engine.explain(**REQUEST).rows() if row.port == "step.guidance"]
    assert (row.plugin, row.default) == ("core", True)
    (row,) = [row for row in engine.explain(use=["mine"], **REQUEST).rows() if row.port == "step.guidance"]
    assert (row.plugin, row.default) == ("mine", False)


@pytest.mark.parametrize(
    ("port", "bad"),
    [
        (ports.noise, lambda args: torch.zeros(args.shape[1:])),
        (ports.noise, lambda args: None),
        (ports.noise, lambda args: "noise"),
        (ports.guidance, lambda step, predictions: None),
        (ports.guidance, lambda step, predictions: predictions["cond"][..., :-1]),
        (ports.guidance, lambda step, predictions: predictions["nobody"]),
        (ports.guidance, lambda step, predictions: predictions["cond"].add_(1)),
        (ports.serialize, lambda args: "text"),
        (ports.serialize, lambda args: b""),
        (ports.seal, lambda args, data: None),
    ],
)
def test_what_breaks_the_law_is_an_error_that_names_the_plugin(port: Port[Any], bad: Any) -> None:
    with pytest.raises(PluginError) as caught:
        generate(stage("bad", port, bad)).pictures[0].encode()
    is_blamed(caught.value, "bad", port, 0 if port.hook == "step" else None)
