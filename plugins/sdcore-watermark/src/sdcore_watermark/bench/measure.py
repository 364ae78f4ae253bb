"""Measuring: every subject, every picture, every attack."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdcore import RequestError
from sdcore_watermark.spread.perception import luma, psnr, ssim

from .attacks import Attack
from .subjects import Outcome, Subject

if TYPE_CHECKING:
    from PIL.Image import Image

Tick = Callable[[], object]


@dataclass
class Cell:
    """One subject under one attack."""

    outcomes: list[Outcome] = field(default_factory=list)
    psnrs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """TPR, bit accuracy, exact and wrong reads, PSNR of attacked against marked pictures, seconds a detection."""
        count = len(self.outcomes)
        matched = [o.matched / 32 for o in self.outcomes if o.matched is not None]
        same = [p for p in self.psnrs if np.isfinite(p)]
        return {
            "pictures": count,
            "tpr": _mean([o.found for o in self.outcomes]),
            "bit_accuracy": _mean(matched),
            "exact": _mean([o.exact for o in self.outcomes]),
            "wrong": _mean([o.wrong for o in self.outcomes]),
            "psnr": _mean(same),
            "seconds": _mean(self.seconds),
        }


@dataclass
class Quality:
    """What marking does to pictures, and how long it takes (process time)."""

    psnrs: list[float] = field(default_factory=list)
    ssims: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    unmarkable: int = 0

    def summary(self) -> dict[str, Any]:
        """Means and minima."""
        return {
            "psnr": _mean(self.psnrs),
            "psnr_min": round(min(self.psnrs, default=0.0), 2),
            "ssim": _mean(self.ssims),
            "ssim_min": round(min(self.ssims, default=0.0), 4),
            "seconds": _mean(self.seconds),
            "unmarkable": self.unmarkable,
        }


def measure(
    subject: Subject, pictures: Mapping[str, Image], attacks: Mapping[str, Attack], payloads: Sequence[int], tick: Tick
) -> tuple[Quality, dict[str, Cell]]:
    """Mark every picture, attack it in every way, look for the mark.

    Args:
        subject: what marks and detects.
        pictures: by name, RGB.
        attacks: by name.
        payloads: one for each picture.
        tick: called after each detection.
    """
    quality, cells = Quality(), {name: Cell() for name in attacks}
    for number, (image, payload) in enumerate(zip(pictures.values(), payloads, strict=True)):
        started = time.process_time()
        try:
            marked = subject.embed(image, payload)
        except (RequestError, RuntimeError):
            quality.unmarkable += 1
            for _ in attacks:
                tick()
            continue
        quality.seconds.append(time.process_time() - started)
        before, after = np.asarray(image), np.asarray(marked)
        quality.psnrs.append(psnr(before, after))
        quality.ssims.append(ssim(luma(before), luma(after)))
        for name, attack in attacks.items():
            attacked = attack(marked, number)
            started = time.process_time()
            cells[name].outcomes.append(subject.detect(attacked, payload))
            cells[name].seconds.append(time.process_time() - started)
            if attacked.size == marked.size:
                cells[name].psnrs.append(psnr(after, np.asarray(attacked)))
            tick()
    return quality, cells


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None
