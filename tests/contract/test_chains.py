"""The law of chains: folded in order; None is unchanged; type, shape and dtype stay; nothing is changed in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image

from sdcore import PluginError, ports
from sdcore.ports import PORTS, Port
from sdcore.stages import Conditioning

from .kit import NEEDS, generate, is_blamed, plain, plugin, same_pictures, sites, stage

LOOP = ("step", "unet")


@dataclass(frozen=True)
class Case:
    """How to test one chain.

    Attributes:
        at: which argument of the stage is the value.
        change: a changed copy of the value.
        wrong: values that break the law, made from a good one.
        in_place: changes the value in place, where it is something that can be.
    """

    at: int
    change: Callable[[Any], Any]
    wrong: Sequence[Callable[[Any], Any]]
    in_place: Callable[[Any], Any] | None = None


def tensor(at: int) -> Case:
    wrong = (
        lambda v: v[..., :-1],
        lambda v: v.double(),
        lambda v: "text",
        lambda v: v.unsqueeze(0),
        lambda v: v.tolist(),
    )
    return Case(at, lambda v: v * 1.5, wrong, lambda v: v.mul_(1.5))


def unequal(value: Any) -> Any:
    return {**value, "cond": value["cond"].replace(context=value["cond"].context[0])}


CASES: dict[Port[Any], Case] = {
    ports.prompt: Case(
        0,
        lambda p: p.replace(positive=p.positive + " on a table"),
        (lambda p: "a cat", lambda p: p.replace(positive=None), lambda p: p.replace(negative=3), lambda p: (p,)),
    ),
    ports.token_embeddings: tensor(1),
    ports.conditioning: Case(
        0,
        lambda c: {**c, "cond": c["cond"].replace(context=c["cond"].context * 2)},
        (
            lambda c: {"uncond": c["uncond"]},
            lambda c: {**c, "more": c["cond"].context},
            lambda c: [*c.values()],
            unequal,
            lambda c: {**c, "cond": Conditioning(c["cond"].context.repeat(2, 1, 1))},
        ),
        lambda c: c["cond"].context.mul_(2),
    ),
    ports.initial_latents: Case(
        0,
        lambda i: i.replace(latents=i.latents * 2),
        (lambda i: i.latents, lambda i: i.replace(latents=i.latents[..., :-1]), lambda i: i.replace(latents=0.5)),
        lambda i: i.latents.mul_(2),
    ),
    ports.sigmas: Case(
        0,
        lambda s: tuple(v * 0.9 for v in s),
        (
            lambda s: list(s),
            lambda s: s[::-1],
            lambda s: (),
            lambda s: (float("nan"),),
            lambda s: (2.0, -1.0),
            lambda s: 3,
        ),
    ),
    ports.timesteps: Case(
        0,
        lambda t: t[:-1] or t,
        (lambda t: list(t), lambda t: t[::-1], lambda t: (), lambda t: (float("inf"), 1.0), lambda t: ("a",)),
    ),
    ports.latents_in: tensor(1),
    ports.unet_input: Case(
        0,
        lambda i: i.replace(sample=i.sample * 2),
        (
            lambda i: i.sample,
            lambda i: i.replace(sample=i.sample[:1]),
            lambda i: i.replace(sample=i.sample.double()),
            lambda i: i.replace(context=i.context[:1]),
            lambda i: i.replace(context=i.context[..., :-1]),
            lambda i: i.replace(rows={"cond": slice(0, 2)}),
            lambda i: i.replace(branches=i.branches[:1]),
        ),
        lambda i: i.sample.mul_(2),
    ),
    ports.prediction: tensor(1),
    ports.latents_out: tensor(1),
    ports.preview: tensor(1),
    ports.attention_qkv: Case(
        0,
        lambda a: a.replace(value=a.value * 2),
        (
            lambda a: a.query,
            lambda a: a.replace(query=a.query[:, :, :-1]),
            lambda a: a.replace(key=a.key[:, :, :-1]),
            lambda a: a.replace(key=a.key[..., :-1]),
            lambda a: a.replace(value=a.value.double()),
            lambda a: a.replace(value=None),
        ),
        lambda a: a.key.mul_(2),
    ),
    ports.attention_probs: tensor(1),
    ports.block_output: tensor(1),
    ports.skip: Case(
        1,
        lambda p: p.replace(hidden=p.hidden * 2),
        (
            lambda p: (p.hidden, p.skip),
            lambda p: p.replace(skip=p.skip[:, :-1]),
            lambda p: p.replace(hidden=p.hidden.double()),
        ),
        lambda p: p.skip.mul_(2),
    ),
    ports.image: Case(
        1,
        lambda i: i.transpose(Image.Transpose.ROTATE_180),
        (lambda i: i.convert("L"), lambda i: i.tobytes(), lambda i: torch.zeros(1, 3, 32, 32)),
    ),
}
CHAINS = tuple(port for port in PORTS if port.kind == "chain")


def acting(port: Port[Any], act: Callable[[Any], Any]) -> Callable[..., Any]:
    """A stage that gives what ``act`` makes of the value."""
    at = CASES[port].at
    return lambda *args: act(args[at])


def needs(port: Port[Any]) -> dict[str, Any]:
    return {"steps": 4, **NEEDS.get(port, {})}


def test_every_chain_is_tested() -> None:
    assert set(CASES) == set(CHAINS)


@pytest.mark.parametrize("port", CHAINS, ids=str)
def test_stages_are_folded_in_the_order_of_use(port: Port[Any]) -> None:
    case, log = CASES[port], []

    def note(name: str) -> Callable[[Any], Any]:
        def act(value: Any) -> Any:
            changed = case.change(value)
            log.append((name, value, changed))
            return changed

        return act

    one, two = (stage(name, port, acting(port, note(name))) for name in ("one", "two"))
    orders = []
    for plugins in ((two, one), (one, two)):
        log.clear()
        generate(*plugins, **needs(port))
        first, second = log[:2]
        orders.append((first[0], second[0]))
        assert second[1] is first[2], "the second does not see what the first gave"
    assert orders == [("two", "one"), ("one", "two")]


@pytest.mark.parametrize("port", CHAINS, ids=str)
def test_none_leaves_the_value(port: Port[Any]) -> None:
    met = []
    idle = generate(stage("a", port, acting(port, lambda value: met.append(1))), **needs(port))
    usual = plain(port, steps=4)
    assert met
    if port is ports.attention_probs:  # other arithmetic: the softmax is written out
        assert torch.allclose(idle.latents, usual.latents, atol=1e-3)
    else:
        assert same_pictures(idle, usual)


def _wrong() -> list[Any]:
    return [pytest.param(port, bad, id=f"{port}-{i}") for port in CHAINS for i, bad in enumerate(CASES[port].wrong)]


@pytest.mark.parametrize(("port", "bad"), _wrong())
def test_what_breaks_the_law_is_an_error_that_names_the_plugin(port: Port[Any], bad: Callable[[Any], Any]) -> None:
    good = stage("good", port, acting(port, CASES[port].change))
    with pytest.raises(PluginError, match=r"returned|expected|holds|branch|must") as caught:
        generate(good, stage("bad", port, acting(port, bad)), **needs(port))
    is_blamed(caught.value, "bad", port, 0 if port.hook in LOOP else None)


@pytest.mark.parametrize("port", [port for port in CHAINS if CASES[port].in_place], ids=str)
def test_changing_the_value_in_place_is_an_error(port: Port[Any]) -> None:
    change = CASES[port].in_place
    assert change is not None
    for give_back in (True, False):

        def act(value: Any, give_back: bool = give_back) -> Any:
            change(value)
            return value if give_back else None

        with pytest.raises(PluginError, match="in place") as caught:
            generate(stage("bad", port, acting(port, act)), **needs(port))
        is_blamed(caught.value, "bad", port, 0 if port.hook in LOOP else None)
    assert same_pictures(generate(**needs(port)), plain(port, steps=4))


@pytest.mark.parametrize("port", CHAINS, ids=str)
def test_generators_and_coroutines_are_not_values(port: Port[Any]) -> None:
    def lazily(*args: Any) -> Any:
        yield args[CASES[port].at]

    with pytest.raises(PluginError, match="generator") as caught:
        generate(stage("bad", port, lazily), **needs(port))
    assert caught.value.plugin == "bad"


def test_a_restored_picture_may_have_another_size_but_not_in_other_phases() -> None:
    def double(picture: Any, image: Image.Image) -> Image.Image:
        return image.resize((64, 64))

    assert generate(stage("a", ports.image, double, phase="restore")).image.size == (64, 64)
    for phase in ("composite", "safety", "watermark"):
        with pytest.raises(PluginError, match=r"\(64, 64\), expected RGB \(32, 32\)") as caught:
            generate(stage("a", ports.image, double, phase=phase))
        is_blamed(caught.value, "a", ports.image, None)


def test_a_picture_from_a_file_is_a_picture() -> None:
    """Subclasses of PIL's Image come and go in a chain: PngImageFile in, Image out."""
    import io

    def reopen(picture: Any, image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "png")
        return Image.open(file)

    chain = [stage(name, ports.image, fn) for name, fn in (("a", reopen), ("b", lambda p, i: i.copy()))]
    assert same_pictures(generate(*chain), generate())


def test_one_hook_may_contribute_several_stages_to_a_port_in_its_own_order() -> None:
    log: list[str] = []

    def noting(port: Port[Any], name: str, run: Any) -> Any:
        return port(lambda *args: log.append(name), **sites(port, run))

    def hook(run: Any) -> Any:
        yield noting(ports.latents_in, "first", run)
        yield noting(ports.latents_in, "second", run)

    generate(plugin("b", step=hook), stage("a", ports.latents_in, lambda *args: log.append("other")), steps=1)
    assert log == ["first", "second", "other"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phase": "sharpen"}, "no phase 'sharpen'; its phases are: composite, restore, safety, watermark"),
        ({"sites": ()}, "takes no `sites=`"),
    ],
)
def test_a_contribution_out_of_place_names_the_plugin(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        generate(stage("a", ports.image, lambda picture, image: None, **fields))
    assert (caught.value.plugin, caught.value.where) == ("a", "decode")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda run: ports.latents_out(None), r"takes a function \(step, latents\) -> Tensor"),
        (lambda run: ports.image(lambda picture, image: None), "belongs to the hook 'decode'"),
        (lambda run: lambda step, latents: None, "it returned function, expected contributions"),
        (lambda run: [lambda step, latents: None], "it returned function, expected contributions"),
        (lambda run: ports.latents_out, "it returned Port, expected contributions"),
        (lambda run: 1 / 0, "ZeroDivisionError"),
        (lambda run: (1 / 0 for _ in range(1)), "ZeroDivisionError"),
    ],
)
def test_a_hook_that_returns_something_else_names_the_plugin(given: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        generate(plugin("a", step=given))
    assert (caught.value.plugin, caught.value.where, caught.value.step) == ("a", "step", None)
