"""Comparing what two runs gave, with messages that say where they part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outcome import Failed

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.result import Result


def same(one: Result, other: Result, what: str) -> None:
    """Fail unless latents and pixels are bit for bit the same.

    Args:
        one: what is expected.
        other: what was given.
        what: the sentence that is not true if they differ.
    """
    told = difference(one, other)
    if told:
        raise Failed(f"{what}: {told}")


def difference(one: Result, other: Result) -> str:
    """How two results differ, or ""."""
    found = [*_latents(one.latents, other.latents)]
    if len(one.images) != len(other.images):
        found.append(f"{len(one.images)} pictures and {len(other.images)}")
    for number, (mine, yours) in enumerate(zip(one.images, other.images, strict=False)):
        if mine.size != yours.size:
            found.append(f"picture {number} is {mine.size} and {yours.size}")
        elif mine.tobytes() != yours.tobytes():
            from PIL import ImageChops

            most = ImageChops.difference(mine, yours).convert("L").getextrema()[1]
            found.append(f"pixels of picture {number} differ by up to {most} of 255")
            break
    return "; ".join(found)


def _latents(one: Tensor, other: Tensor) -> list[str]:
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        return [f"latents are {tuple(one.shape)} {one.dtype} and {tuple(other.shape)} {other.dtype}"]
    if torch.equal(one, other):
        return []
    apart = (one.float() - other.float()).abs()
    where = [int(place) for place in (one != other).nonzero()[0]]
    return [f"latents differ by up to {float(apart.max()):.3g}, first at {where}"]


def near(one: Tensor, other: Tensor, tolerance: float, what: str) -> None:
    """Fail unless two tensors agree within a tolerance, relative to max(1, the largest value)."""
    found = apart(one, other)
    if not found <= tolerance:  # also if it is not a number
        raise Failed(f"{what}: they differ by {found:.3g}, relative to the largest; {tolerance:g} is allowed")


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, relative to max(1, the largest value)."""
    return float((one.float() - other.float()).abs().max()) / max(1.0, float(one.float().abs().max()))
