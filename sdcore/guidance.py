"""Guidance: the core's own stages at the ports ``branches``, ``guidance`` and ``prediction``.

They are contributed like any plugin's, and step aside when a plugin claims ``guidance``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .ports import Contribution
from .stages import Branch, Step

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run

COND, UNCOND = Branch("cond"), Branch("uncond")


def uses_uncond(run: Run) -> bool:
    """Whether classifier-free guidance has any effect: not at scale 1 or below, not with distilled U-Nets."""
    scale = run.request.guidance_scale
    assert scale is not None
    return scale > 1 and getattr(run.model.unet.config, "time_cond_proj_dim", None) is None


def branches(step: Step) -> Iterable[Branch]:
    """What classifier-free guidance needs: the negative branch first, as diffusers batches them."""
    return (UNCOND, COND) if uses_uncond(step.run) else (COND,)


def classifier_free(step: Step, predictions: Mapping[str, Tensor]) -> Tensor:
    """``uncond + scale * (cond - uncond)`` (arXiv 2207.12598)."""
    cond = predictions["cond"]
    if "uncond" not in predictions or not uses_uncond(step.run):
        return cond
    uncond = predictions["uncond"]
    scale = step.run.request.guidance_scale
    assert scale is not None
    return uncond + scale * (cond - uncond)


def rescale(step: Step, guided: Tensor, predictions: Mapping[str, Tensor]) -> Tensor | None:
    """Bring the guided prediction's deviation back towards that of ``cond`` (arXiv 2305.08891, section 3.4)."""
    if len(predictions) < 2:
        return None
    phi = step.run.request.guidance_rescale
    cond = predictions["cond"]
    axes = list(range(1, cond.ndim))
    rescaled = guided * (cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True))
    return phi * rescaled + (1 - phi) * guided


def core_contributions(run: Run) -> list[tuple[str, str, Contribution]]:
    """Stages of the core that are there only when the request asks for them."""
    found = []
    if run.request.guidance_rescale > 0:
        found.append(("core", "sdcore", ports.prediction(rescale, phase="rescale")))
    return found


DEFAULTS: tuple[tuple[ports.Port[Any], Any], ...] = ((ports.branches, branches), (ports.guidance, classifier_free))
