"""Attention that remembers keys and values of the text: they are the same in every step.

What diffusers' `AttnProcessor2_0` does for a plain attention, operation by operation. The processor itself holds
nothing: whoever calls the net gives it a dictionary, through ``cross_attention_kwargs``, that lives as long as a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdcore.attention import is_plain

if TYPE_CHECKING:
    from torch import Tensor

MOST = 128
"""Entries in a dictionary: sixteen cross-attentions of SD1, for some contexts."""


class RememberingProcessor:
    """An attention processor of diffusers that takes ``kept``: (attention, context) to keys and values."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        kept: dict[Any, Any] | None = None,
    ) -> Tensor:
        """Attention of ``hidden_states`` (rows, tokens, width) to the text, or to itself."""
        from torch.nn.functional import scaled_dot_product_attention

        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = _split(attn.to_q(hidden_states), attn.heads)
        if kept is None or encoder_hidden_states is None:
            key, value = _split(attn.to_k(source), attn.heads), _split(attn.to_v(source), attn.heads)
        else:
            place = id(attn), id(source)
            if place not in kept:
                if len(kept) >= MOST:
                    kept.clear()
                # The source is kept too: its id stays taken while the entry lives.
                kept[place] = source, _split(attn.to_k(source), attn.heads), _split(attn.to_v(source), attn.heads)
            _, key, value = kept[place]
        joined = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask).transpose(1, 2)
        output: Tensor = attn.to_out[0](joined.reshape(hidden_states.shape[0], -1, attn.heads * query.shape[-1]))
        return output


def remember(net: Any) -> bool:
    """Give a net of one's own this attention, where all of its attention is plain; returns whether it was.

    Never for a net that somebody else holds too.
    """
    attentions = [module for module in net.modules() if hasattr(module, "to_k") and hasattr(module, "set_processor")]
    if not attentions or not all(is_plain(attention) for attention in attentions):
        return False
    for attention in attentions:
        attention.set_processor(RememberingProcessor())
    return True


def _split(value: Tensor, heads: int) -> Tensor:
    return value.view(value.shape[0], -1, heads, value.shape[-1] // heads).transpose(1, 2)
