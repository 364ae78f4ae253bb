"""ControlNet's forward pass in two halves: what depends on the control picture alone, and the rest of a step.

The operations and their order are those of `diffusers.ControlNetModel.forward`, so that results are bit-identical
to it (arXiv 2302.05543). Tensors only; nothing here knows of runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def embed_condition(net: Any, image: Tensor) -> Tensor:
    """The control picture (rows, channels, height, width) in [0, 1] as features of the size of the latents."""
    if net.config.controlnet_conditioning_channel_order == "bgr":
        image = image.flip(1)
    embedded: Tensor = net.controlnet_cond_embedding(image)
    return embedded


def control_residuals(
    net: Any,
    sample: Tensor,
    timestep: Tensor,
    context: Tensor,
    embedded: Tensor,
    added: Mapping[str, Tensor] | None = None,
    kept: dict[Any, Any] | None = None,
) -> list[Tensor]:
    """What a ControlNet adds to the skip connections of the U-Net, from the finest, and last to its middle block.

    Args:
        net: a `diffusers.ControlNetModel`.
        sample: (rows, channels, height, width), scaled as the scheduler asks.
        timestep: 0-d tensor.
        context: (rows, tokens, width).
        embedded: what `embed_condition` made of the control picture, one row or as many as ``sample`` has.
        added: SDXL's ``text_embeds`` and ``time_ids``.
        kept: for nets whose attention is that of :mod:`.text_memory`: where keys and values of the text are kept.

    Returns:
        Tensors (rows, channels, height, width), not yet scaled.
    """
    import torch

    attention = None if kept is None else {"kept": kept}
    timesteps = timestep[None].to(sample.device).expand(sample.shape[0])
    embedding = net.time_embedding(net.time_proj(timesteps).to(dtype=sample.dtype), None)
    if net.config.addition_embed_type == "text_time":
        assert added is not None
        text = added["text_embeds"]
        times = net.add_time_proj(added["time_ids"].flatten()).reshape((text.shape[0], -1))
        embedding = embedding + net.add_embedding(torch.concat([text, times], dim=-1).to(embedding.dtype))
    hidden = net.conv_in(sample) + embedded
    found = [hidden]
    for block in net.down_blocks:
        if getattr(block, "has_cross_attention", False):
            hidden, skips = block(
                hidden_states=hidden, temb=embedding, encoder_hidden_states=context, cross_attention_kwargs=attention
            )
        else:
            hidden, skips = block(hidden_states=hidden, temb=embedding)
        found += skips
    if net.mid_block is not None:
        if getattr(net.mid_block, "has_cross_attention", False):
            hidden = net.mid_block(hidden, embedding, encoder_hidden_states=context, cross_attention_kwargs=attention)
        else:
            hidden = net.mid_block(hidden, embedding)
    out = [convolution(skip) for convolution, skip in zip(net.controlnet_down_blocks, found, strict=True)]
    return [*out, net.controlnet_mid_block(hidden)]


def to_multiple(image: Tensor, factor: int) -> Tensor:
    """A picture (rows, channels, height, width) whose sides are multiples of ``factor``, by repeating its last pixels.

    SDXL's T2I-Adapters begin with 16 pixels, where the U-Net takes any multiple of 8 and rounds up on the way down:
    so their features come out as large as what they are added to.
    """
    from torch.nn.functional import pad

    height, width = image.shape[-2:]
    if height % factor == 0 and width % factor == 0:
        return image
    return pad(image, (0, -width % factor, 0, -height % factor), mode="replicate")


def weigh(residuals: Sequence[Tensor], factors: Sequence[float], mask: Tensor | None, pooled: bool) -> list[Tensor]:
    """Residuals times their factors; averaged over the picture where the net asks for it; limited to a region.

    Args:
        residuals: tensors (rows, channels, height, width).
        factors: one for each.
        mask: (1, 1, height, width) from 0 to 1, brought to the size of each residual by averaging; or None.
        pooled: ``global_pool_conditions`` of the net.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    weighed = []
    for residual, factor in zip(residuals, factors, strict=True):
        value = residual if factor == 1.0 else residual * factor
        if pooled:
            value = value.mean(dim=(2, 3), keepdim=True).expand_as(value)
        if mask is not None:
            value = value * adaptive_avg_pool2d(mask, value.shape[-2:])  # type: ignore[arg-type]
        weighed.append(value)
    return weighed


def spread(values: Sequence[Tensor], rows: int, places: Sequence[slice]) -> list[Tensor]:
    """Values for some rows of a batch as values for all ``rows``: zero where they are not.

    Args:
        values: tensors whose rows are those of ``places``, in order.
        rows: of the whole batch.
        places: slices of the whole batch.
    """
    spread_out = []
    for value in values:
        whole = value.new_zeros((rows, *value.shape[1:]))
        start = 0
        for place in places:
            size = place.stop - place.start
            whole[place] = value[start : start + size]
            start += size
        spread_out.append(whole)
    return spread_out
