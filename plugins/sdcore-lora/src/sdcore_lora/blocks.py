"""Weights for single blocks: by name, or as the vectors of the A1111 extension lora-block-weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .names import original_block

Blocks = Mapping[str, float] | Sequence[float] | None
NAME = re.compile(r"text|other|mid|(?:down|up)(?:\.\d+(?:\.\d+)?)?|BASE|IN\d\d|M00|OUT\d\d")


def _ids(inputs: Iterable[int], outputs: Iterable[int]) -> tuple[str, ...]:
    return ("BASE", *(f"IN{n:02d}" for n in inputs), "M00", *(f"OUT{n:02d}" for n in outputs))


VECTORS: Mapping[int, tuple[str, ...]] = {
    12: _ids((4, 5, 7, 8), range(6)),
    17: _ids((1, 2, 4, 5, 7, 8), range(3, 12)),
    20: _ids(range(9), range(9)),
    26: _ids(range(12), range(12)),
}
"""Length of a vector to its blocks: 12 and 20 for SDXL, 17 and 26 for SD1 and SD2."""


def names_of(module: str, layers: int) -> list[str]:
    """All names of the block that a module of the U-Net is in, the closest first."""
    place = re.match(r"(down|up)_blocks\.(\d+)\.(\w+?)\.(\d+)", module)
    if module.startswith("mid_block."):
        return ["M00", "mid"]
    found = [original_block(module, layers)] if original_block(module, layers) else []
    if place is None:
        return [*found, "other"]
    layer = place[4] if not place[3].endswith("samplers") else str(layers)
    return [*found, f"{place[1]}.{place[2]}.{layer}", f"{place[1]}.{place[2]}", place[1]]


def factor(blocks: Blocks, component: str, module: str, layers: int) -> float:
    """The factor of one module.

    Args:
        blocks: None for 1 everywhere; a mapping, of whose names the closest counts and 1 if none fits; or a vector
            of a length in `VECTORS`, with 0 for the blocks that it leaves out.
        component: "unet" or a text encoder: "text" or "BASE".
        module: its name in diffusers.
        layers: ``layers_per_block`` of the U-Net.
    """
    if blocks is None:
        return 1.0
    names = names_of(module, layers) if component == "unet" else ["BASE", "text"]
    if isinstance(blocks, Mapping):
        return float(next((blocks[name] for name in names if name in blocks), 1.0))
    if names == ["other"]:
        return 1.0
    return float(dict(zip(VECTORS[len(blocks)], blocks, strict=True)).get(names[0], 0.0))


def problem_of(blocks: Blocks, family: str, modules: Iterable[str], layers: int) -> str | None:
    """What is wrong with block weights for a model, or None."""
    if blocks is None:
        return None
    if not isinstance(blocks, Mapping):
        wide = family == "sdxl"
        if (len(blocks) in (12, 20)) != wide:
            needed = "12 or 20" if wide else "17 or 26"
            return f"a vector of {len(blocks)} block weights is not one for {family}: give {needed}, or name blocks"
        return None
    known = {"text", "BASE"}.union(*(names_of(module, layers) for module in modules))
    missing = [name for name in blocks if name not in known]
    if not missing:
        return None
    shown = ", ".join(sorted(name for name in known if re.fullmatch(r"[a-z]+(\.\d+)?", name)))
    return f"this U-Net has no block {', '.join(missing)}; it has {shown}"
