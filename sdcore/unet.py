"""Sites inside the U-Net, and what happens at them during a run.

Attention is carried out by functions of our own that do what diffusers' default processor does, in the same
order of operations, minus what is repeated needlessly: keys and values of the text are computed once per prompt.
They are put on the modules for the time of a run and taken off again. A U-Net whose application has set other
attention processors keeps them. :mod:`sdcore.attention` and :mod:`sdcore.blocks` are what happens at the sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .attention import attention_forward, is_plain
from .blocks import block_forward, hidden_channels, resnet_forward
from .calling import broke
from .errors import ModelError
from .order import Plan, Stage
from .ports import Port
from .stages import Branch, Site, Step

if TYPE_CHECKING:
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
    """Name of an attention site's module, such as ``"mid_block.attentions.0.transformer_blocks.0.attn2"``."""
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


def check_sites(sites: Mapping[Site, object] | tuple[Site, ...], plan: Plan) -> None:
    """Refuse stages at sites that this U-Net does not have, or where their port does not act.

    Raises:
        PluginError: it names the plugin, the port and the site.
    """
    known = frozenset(sites)
    for port, kinds in KINDS.items():
        for stage in plan[port]:
            for site in stage.sites or ():
                if site not in known or site.kind not in kinds:
                    raise broke(
                        stage,
                        f"it asks for site {site}; this U-Net has {port} only at its sites of kind "
                        f"{' or '.join(kinds)} (see run.find_sites)",
                    )


class SiteSession:
    """The stages of one run at their sites. ``attach`` puts them on, ``detach`` takes everything off.

    Args:
        sites: the U-Net's sites and their modules.
        plan: a plan that :func:`check_sites` has accepted.
        context: what the current U-Net call is about.
        beside: names of modules with a side path.
    """

    def __init__(
        self, sites: Mapping[Site, Module], plan: Plan, context: SiteContext, beside: frozenset[str] = frozenset()
    ) -> None:
        self._sites = sites
        self._context = context
        self._attached: list[tuple[Module, Any]] = []
        self._stages: dict[Site, dict[Port[Any], tuple[Stage, ...]]] = {}
        # Modules with a path beside them change with the step: what they give is not kept.
        self._beside = beside
        for port in KINDS:
            for stage in plan[port]:
                for site in stage.sites or ():
                    here = self._stages.setdefault(site, {})
                    here[port] = (*here.get(port, ()), stage)

    def attach(self) -> None:
        """Put the functions on the modules."""
        for site, module in self._sites.items():
            stages = self._stages.get(site, {})
            if site.kind in ("self", "cross"):
                if not is_plain(module) and stages:
                    raise ModelError(
                        f"a plugin works at site {site}, but the application has set the attention processor "
                        f"{type(module.processor).__name__} there; remove it (unet.set_default_attn_processor())"
                    )
                # A forward that someone else has put on (accelerate's offloading, say) stays, if it can.
                if stages or (is_plain(module) and "forward" not in module.__dict__):
                    inside = f"{module_name(site)}."
                    cached = site.kind == "cross" and not any(name.startswith(inside) for name in self._beside)
                    self._put(module, attention_forward(module, site, stages, self._context, cached))
            elif site.kind == "block" and stages:
                self._put(module, block_forward(module, site, stages, self._context))
            elif site.kind == "resnet":
                skip = Site(site.block, site.index, site.layer, "skip")
                stages = {**stages, **self._stages.get(skip, {})}
                if stages:
                    channels = hidden_channels(self._sites, site)
                    self._put(module, resnet_forward(module, site, stages, self._context, channels))

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
