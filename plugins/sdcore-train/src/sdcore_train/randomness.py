"""Stateless randomness: what is drawn depends on the seed and on where the training is, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def number_of(*parts: object) -> int:
    """A 63-bit number that depends on all parts."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: object) -> Generator:
    """A CPU generator seeded with :func:`number_of` its parts."""
    import torch

    return torch.Generator().manual_seed(number_of(*parts))
