"""Inside the U-Net: sites, stages at them, residuals; compared with what diffusers and plain tensor code give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from diffusers.utils.torch_utils import apply_freeu
from torch import Tensor
from torch.nn import functional

from sdcore import Engine, ModelError, PluginError, Site, Use, ports
from sdcore.models import load_model
from sdcore.stages import BlockOutput
from sdcore.testing.tiny import tiny_folder
from sdcore.unet import find_sites, module_name

from .kit import (
    REQUEST,
    Call,
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

FAMILIES = ("sd1", "sd2", "sdxl", "refiner")
MID = Site("mid", 0, 0, "cross")


def again(call: Call, on: Any = None, **more: Any) -> Tensor:
    """The U-Net by itself, as diffusers has it, on what a run gave it."""
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ("return_dict", "timestep_cond")}
    with torch.no_grad():
        output: Tensor = (on or model()).unet(call.sample, call.timestep, return_dict=False, **{**kwargs, **more})[0]
    return output


# -- which sites there are ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_resnet_and_block_is_a_site(family: str) -> None:
    unet = model(family).unet
    sites = find_sites(unet)
    attentions = {m for name, m in unet.named_modules() if name.endswith((".attn1", ".attn2"))}
    resnets = {m for name, m in unet.named_modules() if type(m).__name__ == "ResnetBlock2D"}
    blocks = {*unet.down_blocks, unet.mid_block, *unet.up_blocks}
    of_kind = {
        kind: [m for s, m in sites.items() if s.kind == kind] for kind in ("self", "cross", "resnet", "skip", "block")
    }
    assert {*of_kind["self"], *of_kind["cross"]} == attentions
    assert len(of_kind["self"]) == len(of_kind["cross"]) == len(attentions) / 2
    assert set(of_kind["resnet"]) == resnets
    assert set(of_kind["block"]) == blocks
    assert len(of_kind["skip"]) == sum(len(block.resnets) for block in unet.up_blocks)
    for site, module in sites.items():
        if site.kind in ("self", "cross"):
            assert unet.get_submodule(module_name(site)) is module
    assert (max(site.depth for site in sites) > 0) == (family in ("sdxl", "refiner"))


def test_a_denoiser_of_other_parts_has_no_sites() -> None:
    assert find_sites(torch.nn.Linear(2, 2)) == {}


def test_sites_have_names_and_an_order() -> None:
    assert str(Site("up", 1, 0, "self", 2)) == "up.1.0.2.self"
    assert str(MID) == "mid.0.0.cross"
    found: list[Any] = []
    generate(plugin("a", unet=lambda run: found.extend(run.find_sites("cross"))))
    assert [str(site) for site in found] == [
        *("down.0.0.cross", "down.1.0.cross", "mid.0.0.cross"),
        *("up.1.0.cross", "up.1.1.cross", "up.2.0.cross", "up.2.1.cross"),
    ]


@pytest.mark.parametrize(
    ("port", "site"),
    [
        (ports.attention, Site("up", 7, 0, "self")),
        (ports.attention, Site("up", 1, 0, "resnet")),
        (ports.skip, Site("up", 1, 0, "resnet")),
        (ports.block, Site("up", 1, 0, "skip")),
        (ports.block_output, Site("mid", 0, 0, "cross")),
    ],
)
def test_a_site_that_is_not_there_is_an_error_before_the_run(port: Any, site: Site) -> None:
    wrong = stage("a", port, lambda *args: None, sites=[site])
    with watched() as calls, pytest.raises(PluginError, match=f"site {site}") as caught:
        generate(wrong)
    is_blamed(caught.value, "a", port, None)
    assert calls == []
    with pytest.raises(PluginError, match=f"site {site}"):
        Engine(model(), plugins=[wrong]).explain(use=[Use(plugin="a")], **REQUEST)


def test_no_sites_and_no_sites_argument_are_errors() -> None:
    with pytest.raises(PluginError, match="empty `sites=`"):
        generate(stage("a", ports.attention, lambda *args: None, sites=[]))
    with pytest.raises(PluginError, match="needs `sites=`"):
        generate(plugin("a", unet=lambda run: ports.attention(lambda args, call_next: call_next(args))))


def test_a_site_named_twice_or_alone_is_there_once() -> None:
    met: list[Site] = []
    generate(stage("a", ports.attention_add, lambda args: met.append(args.site), sites=[MID, MID]), steps=1)
    generate(stage("a", ports.attention_add, lambda args: met.append(args.site), sites=MID), steps=1)
    assert met == [MID, MID]


# -- attention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_that_do_nothing_leave_the_result_bit_for_bit(family: str) -> None:
    def everywhere(run: Any) -> Any:
        attention = [*run.find_sites("self"), *run.find_sites("cross")]
        yield ports.attention_qkv(lambda args: args.replace(), sites=attention)
        yield ports.attention(lambda args, call_next: call_next(args), sites=attention)
        yield ports.attention_add(lambda args: None, sites=attention)
        blocks = [*run.find_sites("block"), *run.find_sites("resnet")]
        yield ports.block(lambda args, call_next: call_next(args.replace()), sites=blocks)
        yield ports.block_output(lambda call, hidden: hidden, sites=blocks)
        yield ports.skip(lambda call, pair: pair.replace(), sites=run.find_sites("skip"))

    own = model(family)
    plain, before = generate(on=own), fingerprint(own)
    assert same_pictures(generate(plugin("a", unet=everywhere), on=own), plain)
    assert fingerprint(own) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_the_unet_of_a_run_is_the_unet_of_diffusers(family: str) -> None:
    own = model(family)
    with watched(own) as calls:
        generate(on=own, count=2)
    assert all(torch.equal(again(call, own), call.output) for call in list(calls))


def test_written_out_attention_equals_fused_attention_and_only_at_its_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    fused: list[int] = []
    real = functional.scaled_dot_product_attention

    def counting(*args: Any, **kwargs: Any) -> Tensor:
        fused.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counting)
    with watched() as plain:
        generate(steps=1)
    everywhere = len(fused)
    fused.clear()
    shapes: list[tuple[int, ...]] = []

    def look(args: Any, probabilities: Tensor) -> None:
        shapes.append(tuple(probabilities.shape))
        assert torch.allclose(probabilities.sum(-1), torch.ones(()), atol=1e-5)

    with watched() as written:
        generate(stage("a", ports.attention_probs, look, sites=[MID]), steps=1)
    assert everywhere - len(fused) == 1
    assert shapes == [(2, 8, 4, 77)]
    assert torch.allclose(written[0].output, plain[0].output, atol=1e-5)
    with watched() as written:
        generate(stage("a", ports.attention_probs, lambda args, p: None), steps=1)
    assert torch.allclose(written[0].output, plain[0].output, atol=1e-5)


def test_keys_and_values_of_two_branches_can_be_swapped() -> None:
    given: list[Any] = []

    def swap(args: Any) -> Any:
        given.append(args)
        return args.replace(key=args.key.flip(0), value=args.value.flip(0))

    with seen(find_sites(model().unet)[MID].to_out[0]) as found:
        generate(stage("a", ports.attention_qkv, swap, sites=[MID]), steps=1)
    (args,) = given
    assert args.rows == {"uncond": slice(0, 1), "cond": slice(1, 2)}
    expected = functional.scaled_dot_product_attention(args.query, args.key.flip(0), args.value.flip(0))
    assert torch.equal(found[0][0], expected.transpose(1, 2).flatten(2))


def test_there_may_be_more_keys_than_before() -> None:
    with watched() as calls:
        generate(steps=1)

    def twice(args: Any) -> Any:
        return args.replace(key=torch.cat([args.key] * 2, dim=2), value=torch.cat([args.value] * 2, dim=2))

    with watched() as doubled:  # every key twice: the same average
        generate(stage("a", ports.attention_qkv, twice), steps=1)
    assert torch.allclose(doubled[0].output, calls[0].output, atol=1e-5)


def test_qkv_is_before_attention_and_adds_are_after_it() -> None:
    log: list[str] = []

    def hook(run: Any) -> Any:
        def note(name: str) -> Any:
            return lambda *args: log.append(name)

        def around(args: Any, call_next: Any) -> Any:
            log.append("around")
            result = call_next(args)
            log.append("after")
            return result

        yield ports.attention_add(note("add"), sites=[MID])
        yield ports.attention_probs(note("probabilities"), sites=[MID])
        yield ports.attention(around, sites=[MID])
        yield ports.attention_qkv(note("qkv"), sites=[MID])

    generate(plugin("a", unet=hook), steps=1)
    assert log == ["qkv", "around", "probabilities", "after", "add"]


def test_keys_and_values_of_the_text_are_computed_once_per_prompt() -> None:
    cross = find_sites(model().unet)[MID]
    with seen(cross.to_k) as keys, seen(cross.to_q) as queries:
        generate(steps=5)
    assert (len(keys), len(queries)) == (1, 5)


def test_the_kept_keys_are_those_of_the_context_also_when_it_changes() -> None:
    """A stage that gives another context in every step sees it used in every step."""

    def shift(inputs: Any) -> Any:
        return inputs.replace(context=inputs.context * (1 + inputs.step.index))

    with watched() as calls:
        generate(stage("a", ports.unet_input, shift), steps=3)
    assert all(torch.equal(again(call), call.output) for call in list(calls))


# -- residuals ------------------------------------------------------------------------------------------


def controlnet(seed: int) -> Any:
    net = ControlNetModel.from_unet(model().unet, conditioning_channels=3)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
    return net.eval()


def control(name: str, seed: int) -> Any:
    net, edges = controlnet(seed), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))

    def add(inputs: Any) -> Any:
        down, mid = net(
            inputs.sample,
            inputs.timestep,
            encoder_hidden_states=inputs.context,
            controlnet_cond=edges.expand(inputs.sample.shape[0], -1, -1, -1),
            return_dict=False,
        )
        return inputs.add_residuals(tuple(down), mid)

    return stage(name, ports.unet_input, add), net, edges


def test_control_residuals_are_those_of_diffusers_and_two_of_them_commute() -> None:
    (one, net_one, edges_one), (two, net_two, edges_two) = control("one", 1), control("two", 2)
    with watched() as calls:
        result = generate(one, two)
    assert same_pictures(result, generate(two, one))
    for call in list(calls):
        parts = []
        for net, edges in ((net_one, edges_one), (net_two, edges_two)):
            with torch.no_grad():
                parts.append(
                    net(
                        call.sample,
                        call.timestep,
                        encoder_hidden_states=call.context,
                        controlnet_cond=edges.expand(2, -1, -1, -1),
                        return_dict=False,
                    )
                )
        (down, mid), (more_down, more_mid) = parts
        residuals = {
            "down_block_additional_residuals": [a + b for a, b in zip(down, more_down, strict=True)],
            "mid_block_additional_residual": mid + more_mid,
        }
        assert torch.equal(again(call, **residuals), call.output)
        assert not torch.allclose(
            again(call, down_block_additional_residuals=None, mid_block_additional_residual=None),
            call.output,
            atol=1e-3,
        )


def test_residuals_of_one_half_are_not_dropped() -> None:
    """diffusers ignores a residual of the middle block alone, and takes those of the down blocks alone for others."""
    shapes = [(32, 8), (32, 8), (32, 4), (64, 4), (64, 2), (64, 2)]
    down = tuple(torch.full((2, channels, size, size), 0.5) for channels, size in shapes)
    mid = torch.full((2, 64, 2, 2), 0.5)
    nothing = {"down": tuple(torch.zeros_like(one) for one in down), "mid": torch.zeros_like(mid)}
    for given in ({"mid": mid}, {"down": down}):
        with watched() as calls:
            generate(stage("a", ports.unet_input, lambda inputs, given=given: inputs.add_residuals(**given)), steps=1)
        with watched() as both:
            generate(
                stage("a", ports.unet_input, lambda i, given=given: i.add_residuals(**{**nothing, **given})), steps=1
            )
        assert torch.equal(calls[0].output, both[0].output)
        assert not torch.allclose(calls[0].output, plain_output(), atol=1e-3)
    with pytest.raises(PluginError, match=r"5 residuals .*6 skip connections") as caught:
        generate(stage("a", ports.unet_input, lambda inputs: inputs.add_residuals(down[:-1], mid)))
    is_blamed(caught.value, "a", ports.unet_input, 0)


def plain_output() -> Tensor:
    with watched() as calls:
        generate(steps=1)
    return calls[0].output


def test_features_inside_the_down_blocks_are_added_too() -> None:
    def features(scale: float) -> list[Tensor]:
        return [torch.full((2, c, s, s), scale) for c, s in ((32, 8), (64, 4), (64, 2))]

    def adapter(name: str, scale: float) -> Any:
        return stage(name, ports.unet_input, lambda inputs: inputs.add_intrablock(tuple(features(scale))))

    with watched() as plain:
        generate(steps=1)
    with watched() as both:
        generate(adapter("a", 0.5), adapter("b", 0.25), steps=1)
    expected = again(plain[0], down_intrablock_additional_residuals=features(0.75))
    assert torch.equal(both[0].output, expected)


def test_more_channels_are_joined_in_the_order_of_the_plugins() -> None:
    """A U-Net of 9 channels gets mask and masked picture from two plugins."""
    inpaint = model("sd1", in_channels=9)
    mask, picture = torch.full((2, 1, 8, 8), 1.0), torch.full((2, 4, 8, 8), 2.0)
    plugins = [
        stage("mask", ports.unet_input, lambda inputs: inputs.add_channels(mask)),
        stage("picture", ports.unet_input, lambda inputs: inputs.add_channels(picture), after=["mask"]),
    ]
    for order in (plugins, plugins[::-1]):
        with watched(inpaint) as calls:
            generate(*order, on=inpaint)
        assert torch.equal(calls[0].sample[:, 4:], torch.cat([mask, picture], dim=1))


# -- blocks and skip connections ------------------------------------------------------------------------


def test_skip_stages_can_be_freeu() -> None:
    """Backbone and skip scaled as diffusers' FreeU does it (arXiv 2309.11497)."""
    settings = {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}

    def freeu(call: Any, pair: Any) -> Any:
        hidden, skip = apply_freeu(call.site.index, pair.hidden.clone(), pair.skip.clone(), **settings)
        return pair.replace(hidden=hidden, skip=skip)

    with watched() as calls:
        generate(stage("freeu", ports.skip, freeu))
    unet = model().unet
    unet.enable_freeu(**settings)
    try:
        by_diffusers = [again(call) for call in list(calls)]
    finally:
        unet.disable_freeu()
    assert all(torch.equal(call.output, other) for call, other in zip(calls, by_diffusers, strict=False))
    assert not torch.allclose(again(calls[0]), calls[0].output, atol=1e-3)


def test_freeu_scales_before_another_plugin_injects() -> None:
    """6.4: the phase scale is before the phase inject, whoever is named first."""
    met: list[Tensor] = []

    def inject(call: Any, pair: Any) -> None:
        met.append(pair.skip)

    def scale(call: Any, pair: Any) -> Any:
        return pair.replace(skip=torch.zeros_like(pair.skip))

    inject_first = [stage("inject", ports.skip, inject, phase="inject"), stage("scale", ports.skip, scale)]
    generate(*inject_first)
    assert met
    assert all(not skip.any() for skip in met)


def test_hidden_and_skip_are_split_where_they_were_joined() -> None:
    for family in FAMILIES:
        own, pairs, expected = model(family), [], []
        for index, block in enumerate(own.unet.up_blocks):
            for layer, resnet in enumerate(block.resnets):
                hidden = block.resnets[layer - 1].out_channels if layer else None
                expected.append((Site("up", index, layer, "skip"), hidden, resnet.in_channels))

        def note(call: Any, pair: Any, pairs: list[Any] = pairs) -> None:
            pairs.append((call.site, pair.hidden.shape[1], pair.hidden.shape[1] + pair.skip.shape[1]))

        with seen(own.unet.up_blocks[0]) as into:
            generate(stage("a", ports.skip, note), on=own, steps=1)
        assert [(site, total) for site, _, total in pairs] == [(site, total) for site, _, total in expected]
        assert pairs[0][1] == into[0][0].shape[1]
        assert all(one[1] == other[1] for one, other in zip(pairs, expected, strict=True) if other[1])


def test_a_block_left_out_and_a_block_from_memory() -> None:
    kept: dict[Site, Any] = {}

    def remember(args: Any, call_next: Any) -> Any:
        kept[args.site] = call_next(args)
        return kept[args.site]

    def deep(run: Any) -> Any:
        return run.find_sites("block", "down")[1:]

    first = generate(plugin("a", unet=lambda run: ports.block(remember, sites=deep(run))), steps=1)
    blocks = model().unet.down_blocks
    with seen(blocks[1].resnets[0]) as computed:
        cached = generate(
            plugin("a", unet=lambda run: ports.block(lambda args, call_next: kept[args.site], sites=deep(run))), steps=1
        )
    assert computed == []
    assert same_pictures(first, cached)


def test_resnet_layers_are_sites_too() -> None:
    site = Site("mid", 0, 1, "resnet")
    resnet = find_sites(model().unet)[site]
    with seen(resnet) as into, seen(model().unet.up_blocks[0]) as after:
        left_out = stage("a", ports.block, lambda args, call_next: BlockOutput(args.hidden), sites=[site])
        doubled = stage("b", ports.block_output, lambda call, hidden: 2 * hidden, sites=[site])
        generate(left_out, doubled, steps=1)
    assert torch.equal(after[0][0], 2 * into[0][0])


# -- what an application has put there ------------------------------------------------------------------


class Theirs:
    """An attention processor of the application's own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.calls += 1
        return torch.zeros_like(hidden_states)


def test_processors_of_the_application_stay_and_a_stage_there_is_refused() -> None:
    own = load_model(str(tiny_folder("sd1")))
    attention, theirs = find_sites(own.unet)[MID], Theirs()
    attention.processor = theirs
    generate(on=own)
    assert theirs.calls == 2
    assert attention.processor is theirs
    before = fingerprint(own)
    with pytest.raises(ModelError, match=r"site mid\.0\.0\.cross.*processor Theirs"):
        generate(stage("a", ports.attention, lambda args, call_next: call_next(args), sites=[MID]), on=own)
    assert fingerprint(own) == before


def test_forwards_of_the_application_stay() -> None:
    """accelerate puts a forward of its own on modules that it moves about."""
    own = load_model(str(tiny_folder("sd1")))
    plain, calls = generate(on=own), []
    sites = find_sites(own.unet)
    modules = [sites[MID], sites[Site("mid", 0, 0, "resnet")], sites[Site("mid", 0, 0, "block")], own.unet.conv_out]
    theirs = []
    for module in modules:

        def forward(*args: Any, original: Any = module.forward, **kwargs: Any) -> Any:
            calls.append(1)
            return original(*args, **kwargs)

        module.forward = forward
        theirs.append(forward)

    def everywhere(run: Any) -> Any:
        found = [site for site in run.sites if site.block == "mid" and site.kind in ("block", "resnet")]
        return ports.block(lambda args, call_next: call_next(args), sites=found)

    assert same_pictures(generate(plugin("a", unet=everywhere), on=own), plain)
    assert len(calls) == 2 * len(modules)
    assert all(module.forward is forward for module, forward in zip(modules, theirs, strict=True))
