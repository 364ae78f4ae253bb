"""Predicted pictures amid the steps: judged once, and shown as fields of colour until they have passed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sdcore import Contribution, Run, Step, Verdict, ports

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .session import Session

JUDGED = 32
"""Latents on the long side of a predicted picture that is judged: classifiers look at 224 pixels, not at more."""


class Previews:
    """The predicted pictures of one pass."""

    def __init__(self, run: Run, session: Session) -> None:
        self._run, self._session = run, session
        self._passed = [False] * len(run.seeds)

    def contribution(self) -> Contribution:
        """The stage at the port ``preview``, in the phase that viewers see and judges do not."""
        return ports.preview(self.show, phase="show")

    def show(self, step: Step, x0: Tensor) -> Tensor | None:
        """Fields of colour in place of pictures that have not passed."""
        import torch

        from .coarse import coarse_latents

        if all(self._passed):
            return None
        passed = torch.tensor(self._passed, device=x0.device).view(-1, 1, 1, 1)
        return torch.where(passed, x0, coarse_latents(x0))

    def judge(self, step: Step, x0: Tensor) -> Iterable[Verdict | None] | None:
        """Judge the predicted pictures in the one step where it is time."""
        early = self._session.options.early
        if early is None or not self._session.looks_early:
            return None
        if step.index != min(math.ceil(early * step.count), step.count) - 1:
            return None
        indices = self._run.indices
        found = self._session.judge_previews(dict(zip(indices, self._decode(x0), strict=True)))
        self._passed = [found[index] is None for index in indices]
        return [found[index] for index in indices]

    def _decode(self, x0: Tensor) -> list[Image]:
        """Small pictures of the predicted ones."""
        import torch

        from sdcore.images import tensors_to_images
        from sdcore.latents import decode_plain

        with torch.no_grad():
            scale = JUDGED / max(x0.shape[-2:])
            if scale < 1:
                x0 = torch.nn.functional.interpolate(x0.float(), scale_factor=scale, mode="area").to(x0.dtype)
            if not bool(x0.isfinite().all()):
                raise ValueError("the predicted picture is not finite")
            return tensors_to_images(decode_plain(self._run, x0))
