"""Sites inside the U-Net, and what happens at them during a run.

Attention is carried out by functions of our own that do what diffusers' default processor does, in the same
order of operations, minus what is repeated needlessly: keys and values of the text are computed once per prompt.
They are put on the modules for the time of a run and taken off again. A U-Net whose application has set other
attention processors keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import call, chain, chain_at, checked, onion
from .errors import ConflictError, ModelError
from .order import Plan, Stage
from .ports import Port
from .stages import AttentionArgs, BlockArgs, BlockOutput, Branch, Site, SiteCall, SkipPair, Step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

KINDS: Mapping[Port[Any], tuple[str, ...]] = {
    ports.attention_qkv: ("self", "cross"),
    ports.attention: ("self", "cross"),
    ports.attention_add: ("self", "cross"),
    ports.attention_probs: ("self", "cross"),
    ports.block_output: ("block", "resnet"),
    ports.skip: ("skip",),
    ports.block: ("block", "resnet"),
}
ATTENTION = (ports.attention_qkv, ports.attention, ports.attention_add, ports.attention_probs)
BLOCKS = (ports.block, ports.block_output, ports.skip)
KV_KEPT = 4


class SiteContext:
    """What the current U-Net call is about; written by the loop, read at the sites."""

    step: Step
    rows: Mapping[str, slice]
    branches: tuple[Branch, ...]

    def __init__(self) -> None:
        self.rows = {}
        self.branches = ()
        self.epoch = 0


def module_name(site: Site) -> str:
    """Name of an attention site's module in the U-Net, such as ``"mid_block.attentions.0.transformer_blocks.0.attn2"``."""
    block = "mid_block" if site.block == "mid" else f"{site.block}_blocks.{site.index}"
    attention = "attn1" if site.kind == "self" else "attn2"
    return f"{block}.attentions.{site.layer}.transformer_blocks.{site.depth}.{attention}"


def find_sites(unet: Module) -> dict[Site, Module]:
    """Every site of a U-Net with the module at it. Empty for a denoiser that is not built of such blocks."""
    sites: dict[Site, Module] = {}
    for name, attribute in (("down", "down_blocks"), ("mid", "mid_block"), ("up", "up_blocks")):
        found = getattr(unet, attribute, None)
        if found is None:
            continue
        for index, block in enumerate([found] if name == "mid" else found):
            sites[Site(name, index, 0, "block")] = block
            for layer, resnet in enumerate(getattr(block, "resnets", ())):
                sites[Site(name, index, layer, "resnet")] = resnet
                if name == "up":
                    sites[Site(name, index, layer, "skip")] = resnet
            for layer, attention in enumerate(getattr(block, "attentions", None) or ()):
                for depth, transformer in enumerate(getattr(attention, "transformer_blocks", ())):
                    if getattr(transformer, "attn1", None) is not None:
                        sites[Site(name, index, layer, "self", depth)] = transformer.attn1
                    if getattr(transformer, "attn2", None) is not None:
                        sites[Site(name, index, layer, "cross", depth)] = transformer.attn2
    return sites


class SiteSession:
    """The stages of one run at their sites. ``attach`` puts them on, ``detach`` takes everything off."""

    def __init__(
        self, sites: Mapping[Site, Module], plan: Plan, context: SiteContext, beside: frozenset[str] = frozenset()
    ) -> None:
        self._sites = sites
        self._context = context
        self._attached: list[tuple[Module, Any]] = []
        self._stages: dict[Site, dict[Port[Any], tuple[Stage, ...]]] = {}
        # Modules with a path beside them change with the step: what they give is not kept.
        self._beside = frozenset(name.rpartition(".")[0] + "." for name in beside)
        for port, kinds in KINDS.items():
            for stage in plan[port]:
                for site in stage.sites or ():
                    if site not in sites or site.kind not in kinds:
                        raise ConflictError(
                            f"plugin {stage.plugin!r} asks for {port} at site {site}; this U-Net has it only at sites "
                            f"of kind {' or '.join(kinds)} (see run.sites)"
                        )
                    here = self._stages.setdefault(site, {})
                    here[port] = (*here.get(port, ()), stage)

    def attach(self) -> None:
        """Put the functions on the modules."""
        for site, module in self._sites.items():
            stages = self._stages.get(site, {})
            if site.kind in ("self", "cross"):
                if not _is_plain(module) and stages:
                    raise ModelError(
                        f"a plugin works at site {site}, but the application has set the attention processor "
                        f"{type(module.processor).__name__} there; remove it (unet.set_default_attn_processor())"
                    )
                # A forward that someone else has put on (accelerate's offloading, say) stays, if it can.
                if stages or (_is_plain(module) and "forward" not in module.__dict__):
                    cached = site.kind == "cross" and f"{module_name(site)}." not in self._beside
                    self._put(module, _attention(module, site, stages, self._context, cached))
            elif site.kind == "block" and stages:
                self._put(module, _block(module, site, stages, self._context))
            elif site.kind == "resnet":
                skip = Site(site.block, site.index, site.layer, "skip")
                stages = {**stages, **self._stages.get(skip, {})}
                if stages:
                    self._put(module, _resnet(module, site, stages, self._context, self._hidden_channels(site)))

    def detach(self) -> None:
        """Take them off: the modules are as they were."""
        for module, before in reversed(self._attached):
            module.__dict__.pop("forward", None)
            if before is not None:
                module.forward = before
        self._attached.clear()

    def _put(self, module: Module, forward: Callable[..., Any]) -> None:
        self._attached.append((module, module.__dict__.get("forward")))
        module.forward = forward

    def _hidden_channels(self, site: Site) -> int:
        """Channels of the backbone features where an up block's resnet joins them with a skip connection."""
        if site.block != "up":
            return 0
        if site.layer:
            before = self._sites[Site("up", site.index, site.layer - 1, "resnet")]
        else:
            name, index = ("up", site.index - 1) if site.index else ("mid", 0)
            here = [m for s, m in self._sites.items() if (s.block, s.index, s.kind) == (name, index, "resnet")]
            before = here[-1]
        return int(before.out_channels)  # type: ignore[arg-type]


def _is_plain(attention: Any) -> bool:
    return (
        type(getattr(attention, "processor", None)).__name__ == "AttnProcessor2_0"
        and attention.spatial_norm is None
        and attention.group_norm is None
        and attention.norm_q is None
        and attention.norm_k is None
        and not attention.norm_cross
        and not attention.residual_connection
        and attention.rescale_output_factor == 1.0
        and attention.to_k is not None
    )


def _attention(
    attn: Any, site: Site, stages: Mapping[Port[Any], tuple[Stage, ...]], context: SiteContext, cached: bool
) -> Callable[..., Tensor]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads: int = attn.heads
    qkv, around, adds, probs = (stages.get(port, ()) for port in ATTENTION)
    kept: dict[int, tuple[int, Tensor, Tensor, Tensor]] = {}

    def split(value: Tensor) -> Tensor:
        return value.view(value.shape[0], -1, heads, value.shape[-1] // heads).transpose(1, 2)

    def keys_values(source: Tensor) -> tuple[Tensor, Tensor]:
        if not cached or torch.is_grad_enabled():
            return split(attn.to_k(source)), split(attn.to_v(source))
        known = kept.get(id(source))
        if known is None or known[0] != context.epoch:
            if len(kept) >= KV_KEPT:
                kept.clear()
            # The source is kept with them: its id stays taken while the entry lives.
            known = kept[id(source)] = (context.epoch, source, split(attn.to_k(source)), split(attn.to_v(source)))
        return known[2], known[3]

    def fused(args: AttentionArgs) -> Tensor:
        if not probs:
            return scaled_dot_product_attention(args.query, args.key, args.value, attn_mask=args.mask)
        logits = args.query @ args.key.transpose(-1, -2) * args.query.shape[-1] ** -0.5
        if args.mask is not None:
            logits = logits + args.mask
        weights = chain_at(probs, args, logits.softmax(dim=-1), args.step.index)
        result: Tensor = weights @ args.value
        return result

    attend = onion(around, fused)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = split(attn.to_q(hidden_states))
        key, value = keys_values(source)
        if attention_mask is not None:
            rows = source.shape[0]
            attention_mask = attn.prepare_attention_mask(attention_mask, source.shape[1], rows)
            attention_mask = attention_mask.view(rows, heads, -1, attention_mask.shape[-1])
        if stages:
            step = context.step
            args = AttentionArgs(site, step, query, key, value, context.rows, context.branches, attention_mask)
            args = chain(qkv, args, step.index)
            result = attend(args)
            for stage in adds:
                result = result + checked(stage, result, call(stage, args, step=step.index), step.index)
        else:
            result = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        joined = result.transpose(1, 2).reshape(result.shape[0], -1, heads * result.shape[-1])
        output: Tensor = attn.to_out[0](joined)
        return output

    return forward


def _resnet(
    resnet: Any, site: Site, stages: Mapping[Port[Any], tuple[Stage, ...]], context: SiteContext, channels: int
) -> Callable[..., Tensor]:
    import torch

    original = resnet.forward
    around, outputs, skips = (stages.get(port, ()) for port in BLOCKS)

    def forward(input_tensor: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        step = context.step
        if skips:
            where = SiteCall(Site(site.block, site.index, site.layer, "skip"), step, context.rows, context.branches)
            pair = SkipPair(input_tensor[:, :channels], input_tensor[:, channels:])
            pair = chain_at(skips, where, pair, step.index)
            input_tensor = torch.cat([pair.hidden, pair.skip], dim=1)

        def core(args: BlockArgs) -> BlockOutput:
            return BlockOutput(original(args.hidden, *rest, **kwargs))

        here = BlockArgs(site, step, input_tensor, context.rows, context.branches)
        hidden = onion(around, core)(here).hidden
        where = SiteCall(site, step, context.rows, context.branches)
        result: Tensor = chain_at(outputs, where, hidden, step.index)
        return result

    return forward


def _block(
    block: Any, site: Site, stages: Mapping[Port[Any], tuple[Stage, ...]], context: SiteContext
) -> Callable[..., Any]:
    original = block.forward
    around, outputs, _ = (stages.get(port, ()) for port in BLOCKS)

    def forward(*args: Any, **kwargs: Any) -> Any:
        step = context.step
        named = "hidden_states" in kwargs
        hidden = kwargs.pop("hidden_states") if named else args[0]
        rest = args if named else args[1:]

        def core(here: BlockArgs) -> BlockOutput:
            result = original(here.hidden, *rest, **kwargs)
            return BlockOutput(*result) if isinstance(result, tuple) else BlockOutput(result)

        here = BlockArgs(site, step, hidden, context.rows, context.branches)
        output: BlockOutput = onion(around, core)(here)
        where = SiteCall(site, step, context.rows, context.branches)
        changed = chain_at(outputs, where, output.hidden, step.index)
        return (changed, output.skips) if site.block == "down" else changed

    return forward
