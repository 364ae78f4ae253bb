"""Safe Latent Diffusion at the ports: a branch that draws the concept, and a term beside any guidance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sdcore import Branch, Conditioning, Run, Step

from .encoding import conditioning_of
from .sld import CONCEPT, STRENGTHS, safety_guidance

if TYPE_CHECKING:
    from torch import Tensor

    from .options import Safety

BRANCH = Branch("safety")
UNCOND = Branch("uncond")


class SafeGuidance:
    """SLD in one pass. It needs the branch of the negative prompt too, also where no other guidance does."""

    def __init__(self, run: Run, options: Safety) -> None:
        self._run = run
        self._strength = STRENGTHS[options.sld]
        self._concept = options.sld_concept.strip() or CONCEPT
        self._now = -1
        self._calls: list[Tensor] = []
        self._before: list[Tensor] = []

    def conditioning(self, found: Mapping[str, Conditioning]) -> Mapping[str, Conditioning]:
        """Add what the concept's branch tells the U-Net."""
        made, lost = conditioning_of(self._run, self._concept, found["cond"].context.shape[1])
        if lost:
            self._run.warn(f"SLD: the text encoder's window is too short for the concept; cut off: {' '.join(lost)}")
        return {**found, BRANCH.id: made}

    def branches(self, step: Step) -> Iterable[Branch]:
        """The branches that the term looks at."""
        return (UNCOND, BRANCH)

    def term(self, step: Step, predictions: Mapping[str, Tensor]) -> Tensor | None:
        """Away from the concept; None before the warm-up ends.

        A step may be gone again, or be gone once for each tile: the nth time in a step goes on from the nth of the
        step before.
        """
        if step.index != self._now:
            self._before = self._calls if step.index == self._now + 1 else []
            self._now, self._calls = step.index, []
        cond = predictions["cond"]
        place = min(len(self._calls), len(self._before) - 1)
        before = self._before[place] if place >= 0 and self._before[place].shape == cond.shape else None
        guidance, momentum = safety_guidance(
            cond, predictions["uncond"], predictions[BRANCH.id], before, self._strength
        )
        self._calls.append(momentum)
        if step.index < self._strength.warmup:
            return None
        return -self._factor * guidance

    @property
    def _factor(self) -> float:
        """The guidance scale where classifier-free guidance multiplies with it, else 1."""
        scale = self._run.request.guidance_scale or 1.0
        distilled = getattr(self._run.model.unet.config, "time_cond_proj_dim", None) is not None
        return scale if scale > 1 and not distilled else 1.0

    @property
    def warmup(self) -> int:
        """Steps before it acts."""
        return self._strength.warmup
