"""Order within a port: phase, before and after, the order in use, name; never the order of installation."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest

from sdcore import ConflictError, Engine, Plugin, Use, hookimpl, ports
from sdcore.order import Plan, compile_plan
from sdcore.ports import PORTS, Contribution, Port
from sdcore.stages import WeightPatch
from sdcore.testing.tiny import tiny_folder


def act(*args: Any) -> None:
    """A stage."""


def plan(found: Sequence[tuple[str, Contribution]], use: Sequence[str] = ()) -> Plan:
    return compile_plan([(name, f"{name} 1", item) for name, item in found], {n: i for i, n in enumerate(use)})


def order(port: Port[Any], found: Sequence[tuple[str, Contribution]], use: Sequence[str] = ()) -> list[str]:
    return [stage.plugin for stage in plan(found, use)[port]]


CHAIN = ports.latents_out


def test_the_order_in_use_decides_and_names_break_ties() -> None:
    found = [(name, CHAIN(act)) for name in ("b", "c", "a")]
    assert order(CHAIN, found, ["c", "a", "b"]) == ["c", "a", "b"]
    assert order(CHAIN, found, ["c"]) == ["c", "a", "b"]
    assert order(CHAIN, found) == ["a", "b", "c"]


def test_no_order_of_the_hooks_changes_anything() -> None:
    found = [
        ("a", CHAIN(act, after=["d"])),
        ("b", CHAIN(act)),
        ("c", CHAIN(act, before=["b"])),
        ("d", CHAIN(act)),
    ]
    orders = {tuple(order(CHAIN, shuffled, ["b", "d"])) for shuffled in itertools.permutations(found)}
    assert orders == {("d", "a", "c", "b")}  # of those that nothing holds back, the first in use, then by name


def test_before_and_after_win_over_use() -> None:
    found = [("a", CHAIN(act, after=["b"])), ("b", CHAIN(act)), ("c", CHAIN(act, before=["b"]))]
    assert order(CHAIN, found, ["a", "b", "c"]) == ["c", "b", "a"]
    assert order(CHAIN, [("a", CHAIN(act, after="b")), ("b", CHAIN(act))], ["a", "b"]) == ["b", "a"]


def test_names_that_are_not_there_ask_for_nothing() -> None:
    found = [("a", CHAIN(act, after=["nobody"], before=["someone"])), ("b", CHAIN(act))]
    assert order(CHAIN, found, ["b", "a"]) == ["b", "a"]


def test_phases_come_first() -> None:
    image = ports.image
    found = [
        ("a", image(act, phase="watermark", before=["d"])),
        ("b", image(act, phase="safety")),
        ("c", image(act)),  # restore
        ("d", image(act, phase="composite", after=["a"])),
    ]
    for use in itertools.permutations("abcd"):
        assert order(image, found, use) == ["d", "c", "b", "a"]


def test_every_port_with_phases_has_a_default_among_them() -> None:
    for port in PORTS:
        assert (port.default_phase in port.phases) if port.phases else port.default_phase is None


def test_stages_of_one_plugin_stay_in_its_order_and_may_lie_on_both_sides_of_another() -> None:
    first, second, third = (lambda *args: None for _ in range(3))
    found = [("a", CHAIN(first)), ("b", CHAIN(act)), ("a", CHAIN(second))]
    assert [stage.fn for stage in plan(found, ["a", "b"])[CHAIN]] == [first, second, act]
    found = [("a", CHAIN(first, before=["b"])), ("a", CHAIN(third, after=["b"])), ("b", CHAIN(act))]
    assert [stage.fn for stage in plan(found, ["b", "a"])[CHAIN]] == [first, act, third]
    assert order(CHAIN, [("a", CHAIN(act, before=["a"], after=["a"]))]) == ["a"]


@pytest.mark.parametrize(
    "found",
    [
        [("a", CHAIN(act, before=["b"])), ("b", CHAIN(act, before=["a"]))],
        [("a", CHAIN(act, after=["b"])), ("b", CHAIN(act, after=["a"]))],
        [("a", CHAIN(act, after=["b"], before=["b"])), ("b", CHAIN(act))],
    ],
)
def test_a_cycle_names_its_members(found: Any) -> None:
    with pytest.raises(ConflictError, match=r"order of step.latents_out is contradictory") as caught:
        plan(found)
    assert re.search(
        r"'a' \(a 1\) before 'b' \(b 1\) before 'a'|'b' \(b 1\) before 'a' \(a 1\) before 'b'", str(caught.value)
    )
    assert "leave one of them out" in str(caught.value)


def test_a_longer_cycle_is_told_in_its_order_without_those_who_only_wait_for_it() -> None:
    found = [
        ("a", CHAIN(act, before=["b"])),
        ("b", CHAIN(act, before=["c"])),
        ("c", CHAIN(act, before=["a"])),
        ("innocent", CHAIN(act, after=["c"])),
        ("early", CHAIN(act)),
    ]
    with pytest.raises(ConflictError) as caught:
        plan(found)
    told = re.findall(r"'(\w+)' \(", str(caught.value))
    assert told in (["a", "b", "c", "a"], ["b", "c", "a", "b"], ["c", "a", "b", "c"])


def test_sums_are_added_by_name_whatever_the_order_in_use() -> None:
    port = ports.guidance_terms
    found = [(name, port(act)) for name in ("c", "a", "b")]
    for use in itertools.permutations("abc"):
        assert order(port, found, use) == ["a", "b", "c"]


def test_two_claims_are_found_here_and_name_both() -> None:
    port = ports.noise
    with pytest.raises(ConflictError, match=r"'a' \(a 1\) and 'b' \(b 1\) both claim latents.noise"):
        plan([("a", port(act)), ("b", port(act))])


# -- what people see ------------------------------------------------------------------------------------


class A(Plugin):
    """One stage with a phase, some patches."""

    name = "a"

    @hookimpl
    def decode(self, run: Any) -> Any:
        return ports.image(self.tint, phase="watermark")

    @hookimpl
    def weights(self, run: Any) -> Any:
        for key in ("conv_out.bias", "conv_in.bias", "conv_out.weight"):
            yield ports.weights(WeightPatch("unet", key, lambda w: w * 0))

    @staticmethod
    def tint(picture: Any, image: Any) -> None:
        """Nothing."""


class B(Plugin):
    """Comes before a."""

    name = "b"

    @hookimpl
    def decode(self, run: Any) -> Any:
        return ports.image(act, phase="watermark", before=["a"])

    @hookimpl
    def unet(self, run: Any) -> Any:
        return ports.attention_add(act, sites=run.find_sites("cross"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(tiny_folder("sd1"), plugins=[A, B])


def test_explain_prints_port_kind_order_phase_plugin_and_stage(engine: Engine) -> None:
    explained = engine.explain("a cat", use=[Use(plugin="a"), Use(plugin="b")], guidance_rescale=0.5)
    lines = [line.split() for line in str(explained).splitlines()]
    assert lines[0] == ["port", "kind", "#", "phase", "plugin", "stage"]
    rows = {(line[0], line[2]): " ".join(line) for line in lines[1:]}
    assert rows["decode.image", "1"].startswith("decode.image chain 1 watermark b (class")
    assert rows["decode.image", "2"].endswith("A.tint")
    assert rows["weights.weights", "1"].endswith("3 x WeightPatch")
    assert rows["unet.attention_add", "1"].endswith("act at 7 sites")
    assert rows["step.guidance", "1"] == "step.guidance choose 1 core (default) classifier_free"
    assert rows["step.prediction", "1"].startswith("step.prediction chain 1 rescale core (sdcore) rescale")
    assert len(rows) == len(lines) - 1
    ports_in_order = [line[0] for line in lines[1:]]
    assert ports_in_order == sorted(ports_in_order, key=[str(port) for port in PORTS].index)


def test_the_plan_in_the_record_is_short_and_always_the_same(engine: Engine) -> None:
    plans = [engine.explain("a cat", use=use) for use in (["a", "b"], ["b", "a"])]
    assert plans[0].lines() == plans[1].lines()
    assert plans[0].lines() == (
        "weights.weights: a",
        "unet.attention_add: b",
        "decode.image [watermark]: b",
        "decode.image [watermark]: a",
    )
    assert str(plans[0]) == str(engine.explain("a cat", use=["a", "b"]))


def test_the_order_of_installation_is_nothing(engine: Engine) -> None:
    other = Engine(engine.model, plugins=[B, A])
    assert str(other.explain("a cat", use=["a", "b"])) == str(engine.explain("a cat", use=["a", "b"]))
