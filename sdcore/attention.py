"""Attention at one site of the U-Net: what diffusers' default processor does, with stages in it.

The operations and their order are those of the default processor, so that results are bit-identical to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import add, chain, chain_at, onion
from .laws import stamp
from .order import Stage
from .ports import Port
from .stages import AttentionArgs, Site

if TYPE_CHECKING:
    from torch import Tensor

    from .unet import SiteContext

PORTS = (ports.attention_qkv, ports.attention, ports.attention_add, ports.attention_probs)
KV_KEPT = 4


def is_plain(attention: Any) -> bool:
    """Whether an attention module does nothing but attention, by diffusers' default processor."""
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


def attention_forward(
    attn: Any, site: Site, stages: Mapping[Port[Any], tuple[Stage, ...]], context: SiteContext, cached: bool
) -> Callable[..., Tensor]:
    """The forward of an attention module with its stages.

    Args:
        attn: the module, a plain one.
        site: of kind ``self`` or ``cross``.
        stages: of the attention ports here.
        context: what the U-Net call is about.
        cached: whether keys and values may be kept while their source and the weights stay.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads: int = attn.heads
    qkv, around, adds, probs = (stages.get(port, ()) for port in PORTS)
    kept: dict[int, tuple[Any, Tensor, Tensor, Tensor]] = {}

    def split(value: Tensor) -> Tensor:
        return value.view(value.shape[0], -1, heads, value.shape[-1] // heads).transpose(1, 2)

    def keys_values(source: Tensor) -> tuple[Tensor, Tensor]:
        if not cached or torch.is_grad_enabled():
            return split(attn.to_k(source)), split(attn.to_v(source))
        known, now = kept.get(id(source)), (context.epoch, stamp(source))
        if known is None or known[0] != now:
            if len(kept) >= KV_KEPT:
                kept.clear()
            # The source is kept with them: its id stays taken while the entry lives.
            known = kept[id(source)] = (now, source, split(attn.to_k(source)), split(attn.to_v(source)))
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
            result = add(adds, result, args, step=step.index)
        else:
            result = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        joined = result.transpose(1, 2).reshape(result.shape[0], -1, heads * result.shape[-1])
        output: Tensor = attn.to_out[0](joined)
        return output

    return forward
