"""Measuring: every subject, every picture, every attack."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdcore import RequestError
from sdcore_watermark.spread.perception import luma, psnr, ssim

from .attacks import Attack
from .cells import Cells, digest
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

    def add(self, told: Mapping[str, Any]) -> None:
        """Count one more picture."""
        self.outcomes.append(Outcome(**told["outcome"]))
        self.seconds.append(told["seconds"])
        if told["psnr"] is not None:
            self.psnrs.append(told["psnr"])

    def summary(self) -> dict[str, Any]:
        """TPR, bit accuracy, exact and wrong reads, PSNR of attacked against marked, median seconds."""
        count = len(self.outcomes)
        matched = [o.matched / 32 for o in self.outcomes if o.matched is not None]
        return {
            "pictures": count,
            "tpr": _mean([o.found for o in self.outcomes]),
            "bit_accuracy": _mean(matched),
            "exact": _mean([o.exact for o in self.outcomes]),
            "wrong": _mean([o.wrong for o in self.outcomes]),
            "psnr": _mean(self.psnrs),
            "seconds": _median(self.seconds),
        }


@dataclass
class Quality:
    """What marking does to pictures, and how long it takes (process time)."""

    psnrs: list[float] = field(default_factory=list)
    ssims: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    unmarkable: int = 0

    def summary(self) -> dict[str, Any]:
        """Means and minima, the median of seconds."""
        return {
            "psnr": _mean(self.psnrs),
            "psnr_min": round(min(self.psnrs, default=0.0), 2),
            "ssim": _mean(self.ssims),
            "ssim_min": round(min(self.ssims, default=0.0), 4),
            "seconds": _median(self.seconds),
            "unmarkable": self.unmarkable,
        }


def measure(
    subjects: Sequence[Subject],
    pictures: Mapping[str, Image],
    attacks: Mapping[str, Attack],
    tick: Tick,
    cells: Cells | None = None,
) -> dict[str, tuple[Quality, dict[str, Cell]]]:
    """Mark every picture by every subject, attack it in every way, look for the mark.

    Payloads and the seeds of attacks follow from the names of the pictures, so that a picture gives the same figures
    whatever others are there. One picture is finished before the next one.

    Args:
        subjects: what marks and detects.
        pictures: by name, RGB.
        attacks: by name.
        tick: called after each detection.
        cells: where figures are kept, and taken from.

    Returns:
        By the subjects' names, what marking does and what is found after each attack.
    """
    kept = Cells(None) if cells is None else cells
    found = {subject.name: (Quality(), {name: Cell() for name in attacks}) for subject in subjects}
    for title, image in pictures.items():
        for subject in subjects:
            quality, told = found[subject.name]
            one = _Picture(subject, title, image, kept)
            marking = one.marking()
            if marking is None:
                quality.unmarkable += 1
            else:
                quality.psnrs.append(marking["psnr"])
                quality.ssims.append(marking["ssim"])
                quality.seconds.append(marking["seconds"])
            for name, attack in attacks.items():
                if marking is not None:
                    told[name].add(one.attacked(name, attack))
                tick()
    return found


def payload_of(title: str) -> int:
    """32 bits for a picture of this name."""
    return int.from_bytes(hashlib.blake2b(title.encode(), digest_size=4).digest(), "little")


class _Picture:
    """One picture and one subject. It is marked only if a figure is missing."""

    def __init__(self, subject: Subject, title: str, image: Image, cells: Cells) -> None:
        self._subject, self._image, self._cells = subject, image, cells
        self._payload = payload_of(title)
        self._what = subject.name, digest(image), f"{self._payload:08x}"
        self._marked: Image | None = None

    def marking(self) -> dict[str, float] | None:
        """PSNR, SSIM and seconds; None if it cannot be marked."""
        told = self._cells.get(*self._what, "marking")
        if told is None:
            started = time.process_time()
            try:
                marked = self._subject.embed(self._image, self._payload)
            except (RequestError, RuntimeError):
                told = {}
            else:
                seconds = time.process_time() - started
                before, after = np.asarray(self._image), np.asarray(marked)
                told = {"psnr": psnr(before, after), "ssim": ssim(luma(before), luma(after)), "seconds": seconds}
                self._marked = marked
            self._cells.put(told, *self._what, "marking")
        return told or None

    def attacked(self, name: str, attack: Attack) -> dict[str, Any]:
        """What is found after one attack."""
        told: dict[str, Any] | None = self._cells.get(*self._what, name)
        if told is None:
            if self._marked is None:
                self._marked = self._subject.embed(self._image, self._payload)
            image = attack(self._marked, self._payload % 2**31)
            started = time.process_time()
            outcome = self._subject.detect(image, self._payload)
            told = {"outcome": asdict(outcome), "seconds": time.process_time() - started, "psnr": None}
            if image.size == self._marked.size:
                apart = psnr(np.asarray(self._marked), np.asarray(image))
                told["psnr"] = apart if np.isfinite(apart) else None
            self._cells.put(told, *self._what, name)
        return told


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None
