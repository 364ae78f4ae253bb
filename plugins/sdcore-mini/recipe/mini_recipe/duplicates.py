"""Pictures that 64 pixels cannot tell apart: found by measuring, and the later of the two left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

#: Root mean square difference, of 1, below which two pictures of a style count as the same.
SAME = 0.06

#: Concepts that stay when they look like an earlier one: the plain form of a thing.
PREFERRED = ("cat face",)


def signature(icon: Image.Image, style: str) -> np.ndarray:
    """What a small picture keeps of an icon: 32x32 alpha and RGB times alpha, float32 in 0..1, flat.

    Alpha is a channel of its own, so that a gray icon is not taken for its gray surroundings.
    """
    small = np.asarray(icon.resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    alpha = small[..., 3:]
    colour = np.zeros_like(small[..., :3]) if style == "line art" else small[..., :3]
    return np.concatenate([colour * alpha, alpha], -1).reshape(-1)


def near_pairs(signatures: np.ndarray, threshold: float = SAME) -> list[tuple[int, int, float]]:
    """Pairs (earlier, later, distance) of rows whose root mean square difference is below the threshold.

    Args:
        signatures: (count, features).
        threshold: distance in the units of the features.
    """
    squares = (signatures**2).sum(1)
    pairs = []
    for index in range(1, len(signatures)):
        distance = squares[:index] + squares[index] - 2 * (signatures[:index] @ signatures[index])
        rms = np.sqrt(np.maximum(distance, 0) / signatures.shape[1])
        pairs += [(int(first), index, float(rms[first])) for first in np.flatnonzero(rms < threshold)]
    return pairs


def resolve(
    names: Sequence[str], styles: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Which concepts, and which single pictures, to leave out.

    A concept goes when it looks like an earlier one in two styles or more. When it does in one style only,
    just that picture goes.

    Args:
        names: concepts in order.
        styles: signatures by style and name.

    Returns:
        Concepts left out, each with the earlier one that it looks like; and (name, style) of single pictures.
    """
    position = {name: index for index, name in enumerate(sorted(names, key=lambda name: name not in PREFERRED))}
    near: dict[tuple[str, str], set[str]] = {}
    for style, table in styles.items():
        present = sorted(table, key=position.__getitem__)
        if not present:
            continue
        for earlier, later, _ in near_pairs(np.stack([table[name] for name in present])):
            near.setdefault((present[earlier], present[later]), set()).add(style)
    gone: dict[str, str] = {}
    single: set[tuple[str, str]] = set()
    for (first, second), found in sorted(near.items(), key=lambda item: (position[item[0][1]], position[item[0][0]])):
        if first in gone or second in gone:
            continue
        if len(found) >= 2:
            gone[second] = first
        else:
            single |= {(second, style) for style in found}
    return gone, {(name, style) for name, style in single if name not in gone}
