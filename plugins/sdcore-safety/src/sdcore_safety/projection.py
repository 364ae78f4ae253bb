"""The projection at the port ``conditioning``: unsafe words of the prompt lose what makes them so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdcore import Conditioning, Run
from sdcore.tokens import token_windows

from .checks.embedding import BENIGN, read_concepts
from .encoding import conditioning_of
from .subspace import Subspace, meanings

if TYPE_CHECKING:
    from torch import Tensor

MOST_ANCHORS = 16
"""Harmless texts that are encoded to know what is usual; each costs as much as a prompt, once for an engine."""

Subspaces = tuple[Subspace, Subspace | None]
"""Of the words' states, and of the pooled text where the family has one."""


def subspaces_of(run: Run) -> Subspaces:
    """The unsafe subspaces of this model's conditioning."""
    import torch

    named = read_concepts()
    benign = named.pop(BENIGN)
    step = max(1, len(benign) // MOST_ANCHORS)
    anchors = [conditioning_of(run, text)[0] for text in benign[::step]]
    texts = [text for phrases in named.values() for text in phrases]
    concepts = [conditioning_of(run, text)[0] for text in texts]
    lengths = [_length(run, text) for text in texts]
    states = meanings([one.context[0].float() for one in concepts], lengths)
    words = Subspace.build(states, torch.cat([one.context[0, 1:].float() for one in anchors]))
    pooled = None
    if all(one.pooled is not None for one in (*anchors, *concepts)):
        pooled = Subspace.build(_pooled(concepts), _pooled(anchors))
    return words, pooled


def _pooled(found: list[Conditioning]) -> Tensor:
    import torch

    return torch.cat([one.pooled.float() for one in found if one.pooled is not None])


def _length(run: Run, text: str) -> int:
    """Tokens of a text with start and end, within one window."""
    return sum(token_windows(run.model.tokenizers[0], text, "cut")[0][0][1])


def project(
    found: Mapping[str, Conditioning], subspaces: Subspaces, amount: float
) -> tuple[dict[str, Conditioning], int]:
    """The conditioning with the prompt's branch projected, and how many of its vectors were changed.

    The start token is left alone: it is the same in every text.
    """
    import torch

    cond = found["cond"]
    words, for_pooled = subspaces
    moved, changed = words.remove(cond.context[0, 1:].float(), amount)
    context = torch.cat([cond.context[:, :1], moved[None].to(cond.context)], dim=1)
    pooled = cond.pooled
    if pooled is not None and for_pooled is not None:
        vector, more = for_pooled.remove(pooled.float(), amount)
        pooled, changed = vector.to(pooled), changed + more
    return {**found, "cond": cond.replace(context=context, pooled=pooled)}, changed
