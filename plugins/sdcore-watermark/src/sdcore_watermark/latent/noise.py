"""Noise with keyed signs, as the engine wants it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sdcore_watermark.keys import Key

from .signs import signs

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.stages import NoiseArgs


def keyed_noise(args: NoiseArgs, key: Key, payload: int) -> Tensor:
    """Normal noise of the shape asked for, from the picture's generator, with the signs of key, seed and payload."""
    import torch

    from sdcore_watermark.spread.code import encode

    secret = key.subkey("latent")
    drawn = torch.randn(args.shape, generator=args.generator)
    keyed = signs(secret, args.seed, math.prod(args.shape), encode(payload, secret[0] & 15))
    return drawn.abs() * torch.from_numpy(keyed).to(drawn.dtype).reshape(args.shape)
