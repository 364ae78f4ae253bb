"""Looking for the pattern in a picture: as it is, through the lattice of its tiles, along lines of geometries.

The p-value is a bound, whatever the picture is (see :mod:`.correlate`): the tail at the best statistic, times the
number of hypotheses among which it is the best, times the number of stages that are gone through at most. A stage ends
the search when what it found is beyond chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .carrier import Carriers
from .code import PAYLOAD, Decoded, decode
from .correlate import Hit, fold, search, soft_bits, tail
from .geometry import Geometry, View, autocorrelation, candidates

STAGES = 4
ENOUGH = 1e-9
CANDIDATES = 40
KEPT = 0.47
"""Of a picture made smaller the frequencies up to nearly half a period per pixel are left."""
UP = round(math.log(2.5) / 0.005)
LOOK = 512
"""Pixels of a side that are looked at in the search, of the picture as it was marked; all of it is used at the end."""

REFINE = tuple((s, a) for s in (-0.004, -0.002, 0.0, 0.002, 0.004) for a in (-0.4, -0.2, 0.0, 0.2, 0.4))
AGAIN = tuple((s, a) for s, a in REFINE if abs(s) <= 0.003 and abs(a) <= 0.3)
REFINED = len(REFINE) + len({(round(s + t, 4), round(a + b, 2)) for s, a in REFINE for t, b in AGAIN})
"""Places at which the two rounds of refinement of one view may look: 25 at a part of the picture, 49 at all of it."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best that there is.

    Attributes:
        p_value: bound on the probability that an unmarked picture gives as much.
        hit: statistic, shift and spectrum.
        geometry: how the picture was scaled and turned; quarter turns are those of ``hit``.
        keyed: the carriers that it was found with.
        hypotheses: how many were looked at in the stage that found it.
        read: the payload, where these carriers bear one.
    """

    p_value: float
    hit: Hit
    geometry: Geometry
    keyed: Carriers
    hypotheses: int
    read: Decoded | None = None


class Search:
    """The search in one picture.

    Args:
        pixels: (height, width, 3).
        kinds: sets of carriers that may be in it, the likeliest first.
        on_view: called before every look, for instance to stop by an exception.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], kinds: Iterable[Carriers], on_view: Callable[[], object] | None = None
    ) -> None:
        self._view = View(pixels)
        self._kinds = tuple(kinds)
        self._on_view = on_view
        self.best: Found | None = None

    @property
    def shows_anything(self) -> bool:
        """Whether the picture is more than one colour."""
        return bool(self._view.white.any())

    def fast(self, scales: Iterable[float] = (1.0,)) -> Found:
        """The picture as it is, mirrored, turned by quarters, at scales that it is likely to have."""
        native = self._stage([(1.0, 0.0, self._kinds[0])], symmetries=2, refine=False, whole=True)
        assert native is not None
        if native.p_value > ENOUGH:
            views = [(scale, 0.0, keyed) for scale in scales for keyed in self._kinds]
            self._stage(views, symmetries=8, refine=False, whole=True)
        assert self.best is not None
        return self.best

    def lattice(self) -> Found | None:
        """Scales and angles at which the picture repeats, with all quarter turns."""
        correlation = autocorrelation(self._view.white)
        views = []
        for keyed in self._kinds:
            views += [(*found, keyed) for found in candidates(correlation, keyed.side, CANDIDATES)]
        return self._stage(views, symmetries=8, refine=True)

    def lines(self) -> Found | None:
        """Every scale without a turn, every turn up to 15 degrees at scale 1."""
        return self._stage(list(self._lines()), symmetries=2, refine=True)

    def _lines(self) -> Iterator[tuple[float, float, Carriers]]:
        for keyed in self._kinds:
            for step in range(1, 51):
                for sign in (1, -1):
                    yield 1.0, sign * 0.3 * step, keyed
            for step in range(round(math.log(4.4) / 0.005)):
                for sign in (1, -1) if step < UP else (-1,):
                    yield math.exp(sign * 0.005 * (step + 0.5)), 0.0, keyed

    def _stage(
        self, views: list[tuple[float, float, Carriers]], symmetries: int, refine: bool, whole: bool = False
    ) -> Found | None:
        """Look at some views. Counted are all those that might have been looked at, refinements included."""
        count = sum(keyed.side**2 for _, _, keyed in views) * symmetries * (REFINED if refine else 1)
        best: Found | None = None
        for scale, angle, keyed in views:
            found = self._look(scale, angle, keyed, symmetries, count, None if whole else LOOK)
            if best is None or found.hit.z > best.hit.z:
                best = found
                if refine and found.p_value < ENOUGH:
                    break
        if best is not None and refine and best.hit.z > 4.5:
            best = self._refine(best, symmetries, count)
        if best is not None:
            best = _with_payload(best)
        if best is not None and (self.best is None or best.p_value < self.best.p_value):
            self.best = best
        return best

    def _refine(self, start: Found, symmetries: int, count: int) -> Found:
        best = start
        for most, offsets in ((LOOK, REFINE), (None, AGAIN)):
            middle = best.geometry
            for ds, da in offsets:
                where = middle.scale * math.exp(ds), middle.angle + da
                found = self._look(*where, best.keyed, symmetries, count, most, best.hit)
                if found.hit.z > best.hit.z:
                    best = found
            if min(self._view.plane.shape) / best.geometry.scale <= LOOK:
                break
        return best

    def _look(
        self,
        scale: float,
        angle: float,
        keyed: Carriers,
        symmetries: int,
        count: int,
        most: int | None,
        like: Hit | None = None,
    ) -> Found:
        if self._on_view is not None:
            self._on_view()
        tile = fold(self._view.at(scale, angle, most), keyed.side)
        hit = search(tile, keyed, symmetries, like, KEPT * scale)
        p = min(1.0, STAGES * count * tail(hit.z))
        return Found(p, hit, Geometry(scale, angle, hit.mirror, hit.shift), keyed, count)


def _with_payload(found: Found) -> Found:
    """The same, with what the bits say added to the evidence.

    They have carriers of their own, so that what they say is independent of the rest under the null hypothesis. A code
    word correlates like a sum of cosines, and there are 2**32 that pass the check sum. The product of two independent
    p-values is at most x with probability x (1 - ln x) (Fisher 1925). Either of two ways may count: hence the 2.
    """
    if found.keyed.sync.all():
        return found
    soft = soft_bits(found.hit, found.keyed)
    read = decode(soft, found.keyed.check_mask)
    alone = tail(found.hit.z)
    if read.checks:
        z = read.agreement * float(np.sqrt(soft @ soft))
        both = max(alone * min(1.0, 2.0**PAYLOAD * tail(z)), 1e-300)
        alone = min(alone, both * (1 - math.log(both)))
    return replace(found, p_value=min(1.0, 2 * STAGES * found.hypotheses * alone), read=read)
