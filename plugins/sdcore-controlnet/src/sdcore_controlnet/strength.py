"""How strong control is: in which steps, and by which factor for each residual. Plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

FALLOFF = 0.825
"""By how much each coarser-to-finer residual is weakened in the mode "prompt" (sd-webui-controlnet)."""
ADAPTER_FALLOFF = (0.25, 0.62, 0.825, 1.0)
"""The same for the four features of a T2I-Adapter, from the finest (sd-webui-controlnet)."""


def acts(index: int, count: int, start: float, end: float) -> bool:
    """Whether a ControlNet acts in step ``index`` of ``count``: ``controlnet_keep`` of diffusers' pipelines."""
    return not (index / count < start or (index + 1) / count > end)


def adapter_acts(index: int, count: int, steps: int, start: float, end: float) -> bool:
    """Whether a T2I-Adapter acts in U-Net call ``index`` of ``count``.

    ``end`` is ``adapter_conditioning_factor`` of diffusers' StableDiffusionXLAdapterPipeline, which counts in
    ``steps``, not in U-Net calls (PNDM has one more of these). ``start`` is as for a ControlNet.
    """
    return index / count >= start and (end == 1 or index < int(steps * end))


def factors(
    count: int, scale: float, mode: str = "balanced", blocks: Sequence[float] | None = None, adapter: bool = False
) -> tuple[float, ...]:
    """The factor of each of ``count`` residuals, from the finest to that of the middle block.

    Args:
        count: how many residuals there are.
        scale: of all of them.
        mode: "balanced": ``scale`` alone. "prompt": residual i of n also by 0.825 ** (n - 1 - i). "control": also by
            0.1 to 1, evenly spaced in the logarithm (guess mode, arXiv 2302.05543).
        blocks: further factors, one for each.
        adapter: whether they are the features of a T2I-Adapter.
    """
    if mode == "control":
        import torch

        # As diffusers computes them, in float32, so that results are bit-identical.
        found: list[float] = (torch.logspace(-1, 0, count) * scale).tolist()
    elif mode == "prompt" and adapter and count == len(ADAPTER_FALLOFF):
        found = [scale * weight for weight in ADAPTER_FALLOFF]
    elif mode == "prompt":
        found = [scale * FALLOFF ** (count - 1 - place) for place in range(count)]
    else:
        found = [scale] * count
    if blocks is not None:
        found = [factor * block for factor, block in zip(found, blocks, strict=True)]
    return tuple(found)
