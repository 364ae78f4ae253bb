"""Stages at the blocks and resnet layers of the U-Net: around a block, its output, its skip connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import broke, chain_at, onion
from .order import Stage
from .ports import Port
from .stages import BlockArgs, BlockOutput, Site, SiteCall, SkipPair

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from .unet import SiteContext

Stages = Mapping[Port[Any], tuple[Stage, ...]]


def hidden_channels(sites: Mapping[Site, Module], site: Site) -> int:
    """Channels of the backbone features where an up block's resnet joins them with a skip connection; else 0."""
    if site.block != "up":
        return 0
    if site.layer:
        before = sites[Site("up", site.index, site.layer - 1, "resnet")]
    else:
        name, index = ("up", site.index - 1) if site.index else ("mid", 0)
        before = [m for s, m in sites.items() if (s.block, s.index, s.kind) == (name, index, "resnet")][-1]
    return int(before.out_channels)  # type: ignore[arg-type]


def resnet_forward(
    resnet: Any, site: Site, stages: Stages, context: SiteContext, channels: int
) -> Callable[..., Tensor]:
    """The forward of a resnet layer with its stages.

    Args:
        resnet: the module.
        site: of kind ``resnet``.
        stages: of the ports ``block`` and ``block_output`` here, and of ``skip`` at the join before it.
        context: what the U-Net call is about.
        channels: of the backbone features, where a skip connection is joined to them.
    """
    import torch

    original = resnet.forward
    outputs, skips = stages.get(ports.block_output, ()), stages.get(ports.skip, ())
    join = Site(site.block, site.index, site.layer, "skip")
    others: tuple[Any, dict[str, Any]] = ((), {})

    def core(args: BlockArgs) -> BlockOutput:
        rest, kwargs = others
        return BlockOutput(original(args.hidden, *rest, **kwargs))

    around = onion(stages.get(ports.block, ()), core)

    def forward(input_tensor: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        nonlocal others
        others = (rest, kwargs)
        step = context.step
        if skips:
            given = SkipPair(input_tensor[:, :channels], input_tensor[:, channels:])
            pair = chain_at(skips, SiteCall(join, step, context.rows, context.branches), given, step.index)
            if pair is not given:
                input_tensor = torch.cat([pair.hidden, pair.skip], dim=1)
        here = BlockArgs(site, step, input_tensor, context.rows, context.branches)
        hidden: Tensor = around(here).hidden
        if outputs:
            hidden = chain_at(outputs, SiteCall(site, step, context.rows, context.branches), hidden, step.index)
        return hidden

    return forward


def block_forward(block: Any, site: Site, stages: Stages, context: SiteContext) -> Callable[..., Any]:
    """The forward of a whole block with its stages; ``site`` is of kind ``block``."""
    original = block.forward
    outputs, arounds = stages.get(ports.block_output, ()), stages.get(ports.block, ())
    emitted = len(block.resnets) + len(getattr(block, "downsamplers", None) or ()) if site.block == "down" else 0
    others: tuple[Any, dict[str, Any]] = ((), {})

    def core(args: BlockArgs) -> BlockOutput:
        rest, kwargs = others
        result = original(args.hidden, *rest, **kwargs)
        return BlockOutput(*result) if isinstance(result, tuple) else BlockOutput(result)

    around = onion(arounds, core)

    def outputs_only(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        hidden, *skips = result if isinstance(result, tuple) else (result,)
        step = context.step
        hidden = chain_at(outputs, SiteCall(site, step, context.rows, context.branches), hidden, step.index)
        return (hidden, *skips) if skips else hidden

    if not arounds:
        return outputs_only

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal others
        hidden = kwargs.pop("hidden_states") if "hidden_states" in kwargs else args[0]
        others = (args[1:], kwargs)
        step = context.step
        here = BlockArgs(site, step, hidden, context.rows, context.branches)
        output: BlockOutput = around(here)
        if len(output.skips) != emitted:
            problem = f"it returned {len(output.skips)} skip connections, block {site} emits {emitted}"
            raise broke(arounds[0], problem, step.index)
        hidden = output.hidden
        if outputs:
            hidden = chain_at(outputs, SiteCall(site, step, context.rows, context.branches), hidden, step.index)
        return (hidden, tuple(output.skips)) if site.block == "down" else hidden

    return forward
