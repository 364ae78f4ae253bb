"""Random decisions that depend on nothing but a seed and what they are for."""

from __future__ import annotations

import hashlib
import random


def stream(*purpose: object) -> random.Random:
    """A generator of its own for each purpose, such as ``stream(seed, "background", concept, style)``."""
    text = "\x1f".join(str(part) for part in purpose)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
