"""The text encoder as a memory: what the last feed-forward layer is given before it learns.

A feed-forward layer is a key-value memory (arXiv 2012.14913): a hidden unit whose incoming weights are the key of a
thing answers where the thing is named, and its outgoing weights are what is then written into the state. Learning both
at once by regression takes hours for some thousand things. Learning to tell the things apart takes minutes; the keys
that come of it are put in place here, with the latents of each thing as values, and training goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ON = 5.0
"""What a unit's input is where its thing is named: far enough in the open half of the activation."""
LOUD = 6.0
"""What the memory writes, as a multiple of what the state was before: the rest of it becomes a hum."""


def middle(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The last token's state before the last feed-forward layer, and as that layer sees it.

    The last token, an end token, has seen the whole text. Only its way through the last layer is computed.

    Args:
        encoder: a CLIPTextModel.
        ids: (n, length) of tokens, padded with end tokens.

    Returns:
        Both (n, width); the second has gone through the layer's norm.
    """
    state = encoder.embeddings(input_ids=ids)
    *layers, last = encoder.encoder.layers
    for layer in layers:
        state = layer(state, attention_mask=None, is_causal=True)
    attention, normed = last.self_attn, last.layer_norm1(state)
    count, _, width = normed.shape

    def heads(value: Tensor) -> Tensor:
        return value.view(count, -1, attention.num_heads, attention.head_dim).transpose(1, 2)

    seen = functional.scaled_dot_product_attention(
        heads(attention.q_proj(normed[:, -1:])), heads(attention.k_proj(normed)), heads(attention.v_proj(normed))
    )
    state = state[:, -1] + attention.out_proj(seen.transpose(1, 2).reshape(count, width))
    return state, last.layer_norm2(state)


def end_states(encoder: Any, ids: Tensor) -> Tensor:
    """The last token's state as the U-Net gets it, (n, width)."""
    state, normed = middle(encoder, ids)
    return encoder.final_layer_norm(state + encoder.encoder.layers[-1].mlp(normed))  # type: ignore[no-any-return]


def trimmed(ids: Tensor, end: int) -> Tensor:
    """Without the columns that are padding in all rows; one end token stays in each."""
    return ids[:, : int((ids == end).int().argmax(1).max()) + 1]


def cosines(normed: Tensor, keys: Tensor) -> Tensor:
    """(n, keys): of states with keys."""
    return functional.normalize(normed, dim=1) @ functional.normalize(keys, dim=1).T


@dataclass(frozen=True)
class Group:
    """Keys of one kind, of which one is right for a text: things, backgrounds, styles.

    Attributes:
        keys: (k, width).
        values: (k, width), what is written for each.
        right: (n,), which one is right for each text of a sample.
    """

    keys: Tensor
    values: Tensor
    right: Tensor


def threshold(normed: Tensor, group: Group) -> tuple[float, float]:
    """The cosine at which a group's units open, and how steeply.

    It lies between what nearly all right keys reach and what nearly all wrong ones stay under.
    """
    found = cosines(normed, group.keys)
    right = found.gather(1, group.right[:, None])[:, 0]
    wrong = found.scatter(1, group.right[:, None], -1.0).amax(1)
    low, high, typical = float(right.quantile(0.03)), float(wrong.quantile(0.9)), float(right.median())
    opens = (low + high) / 2 if low > high else 0.6 * high + 0.4 * typical
    return opens, ON / (typical - opens)


@torch.no_grad()
def place(encoder: Any, ids: Sequence[Tensor], groups: Sequence[Group]) -> None:
    """Write keys and values into the last feed-forward layer; units that are left over write nothing yet.

    Args:
        encoder: a CLIPTextModel that tells texts apart.
        ids: a sample of texts, in parts.
        groups: their keys together must not be more than the layer has units.

    Raises:
        ValueError: they are more.
    """
    layer = encoder.encoder.layers[-1].mlp
    units, width = layer.fc1.weight.shape
    needed = sum(len(group.keys) for group in groups)
    if needed > units:
        raise ValueError(f"{needed} keys for {units} units: build the model with a larger `units`")
    parts = [middle(encoder, part) for part in ids]
    state, normed = (torch.cat(part) for part in zip(*parts, strict=True))
    loudness = LOUD * state.norm(dim=1).mean() / max(group.values.norm(dim=1).max() for group in groups)
    layer.fc2.weight.zero_()
    layer.fc2.bias.zero_()
    layer.fc1.bias.zero_()
    start = 0
    for group in groups:
        opens, steepness = threshold(normed, group)
        part = slice(start, start + len(group.keys))
        start = part.stop
        # The norm of a normed state is the root of its width.
        layer.fc1.weight[part] = steepness * functional.normalize(group.keys, dim=1) / width**0.5
        layer.fc1.bias[part] = -steepness * opens
        layer.fc2.weight[:, part] = (loudness / ON * group.values).T


def codes(latents: Tensor, width: int) -> Tensor:
    """Latents as vectors of a given width and one common length.

    They are the leading principal components. What a norm layer would lose, the length, is made the same for all by two
    more numbers of opposite sign.

    Args:
        latents: (n, values).
        width: of the result at most; it is less where fewer components say all there is to say.

    Returns:
        (n, width).
    """
    centred = latents - latents.mean(0)
    found = centred @ torch.linalg.svd(centred, full_matrices=False)[2][: width - 2].T
    squares = found.square().sum(1)
    fill = ((1.1 * squares.max() - squares) / 2).sqrt()
    return torch.cat([found, fill[:, None], -fill[:, None]], 1)


def affine(inputs: Tensor, outputs: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear layer that maps (n, a) to (n, b) best, with a little regularisation."""
    ones = torch.ones_like(inputs[:, :1])
    rows = torch.cat([inputs, ones], 1).double()
    square = rows.T @ rows + ridge * len(rows) * torch.eye(rows.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(square, rows.T @ outputs.double()).to(inputs.dtype)
    return solution[:-1].T.contiguous(), solution[-1]
