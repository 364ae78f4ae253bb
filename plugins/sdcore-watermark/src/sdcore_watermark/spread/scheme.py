"""The scheme ``spread``: marks the pixels with a keyed pattern, for pictures of 64x64 pixels and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sdcore import RequestError
from sdcore_watermark.detection import Detection
from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import Marked, WatermarkScheme

if TYPE_CHECKING:
    from PIL.Image import Image

    from .carrier import Carriers

LEAST = 64
SMALL = 112
LARGE = 192
HUGE = 1536
LEAST_SSIM = 0.975
SURE = 0.9
"""A payload is reported if each of its bits is this sure and the check sum fits."""


class Spread(WatermarkScheme):
    """Spread spectrum in the pixels; see :mod:`sdcore_watermark.spread.embedding`."""

    name: ClassVar[str] = "spread"
    bits: ClassVar[int] = 32

    def embed(self, image: Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        """Mark a picture.

        Raises:
            RequestError: it is smaller than 64 pixels, or leaves no room: flat black or white cannot be marked.
        """
        import numpy as np
        from PIL import Image as PIL

        from .code import encode
        from .embedding import embed

        side = min(image.size)
        if side < LEAST:
            raise RequestError(
                f"the picture is {image.width}x{image.height}; scheme spread marks {LEAST} pixels a side and more"
            )
        keyed = _carriers(key, side)
        word = encode(payload, keyed.check_mask)
        made = embed(np.asarray(image), keyed, word, psnr, LEAST_SSIM, _factor(side))
        if made.psnr > psnr + 7:
            raise RequestError(
                f"the picture cannot be marked: it is so flat, black or white that a mark of {psnr:g} dB becomes "
                f"{made.psnr:.1f} dB; lower psnr to mark it visibly, or leave it unmarked"
            )
        bears = payload if (~keyed.sync).any() else None
        return Marked(PIL.fromarray(made.pixels), made.psnr, made.ssim, bears)

    def detect(self, image: Image, key: Key, search: str = "auto") -> Detection:
        """Look for the mark; ``search="auto"`` goes through scales and turns if the picture as it is has none."""
        import numpy as np

        from .detecting import ENOUGH, Search

        if min(image.size) < 16:
            return Detection(self.name, 1.0, 0.0, None, (), {}, key.key_id)
        factor = _factor(min(image.size))
        view = image.reduce(factor) if factor > 1 else image
        side = min(view.size)
        sought = Search(np.asarray(view), _kinds(key, side))
        sought.fast(_reductions(side))
        if search == "auto" and sought.shows_anything:
            for stage in (sought.lattice, sought.lines):
                if sought.best is not None and sought.best.p_value <= ENOUGH:
                    break
                stage()
        best = sought.best
        assert best is not None
        payload: int | None = None
        guess: int | None = None
        confidence: tuple[float, ...] = ()
        read = best.read
        if read is not None:
            confidence, guess = read.confidence, read.payload
            if read.checks and min(confidence) >= SURE and best.p_value <= 1e-3:
                payload = read.payload
        where = best.geometry
        # Turned back by quarters after it was mirrored back, so a mirrored picture turned the other way.
        quarters = 90 * best.hit.turn * (1 if where.mirror else -1)
        geometry = {
            "scale": round(where.scale * factor, 4),
            "angle": round((where.angle + quarters + 180) % 360 - 180, 2) + 0.0,
            "mirror": where.mirror,
            "shift": [round(value, 1) for value in where.shift],
        }
        return Detection(self.name, best.p_value, best.hit.z, payload, confidence, geometry, key.key_id, guess)


def _factor(side: int) -> int:
    """Large pictures are marked with an enlarged pattern: they will be made smaller, and eyes see them smaller."""
    return max(1, round(side / 1024)) if side >= HUGE else 1


def _carriers(key: Key, side: int) -> Carriers:
    from .carrier import LARGE as WIDE
    from .carrier import SMALL as NARROW
    from .carrier import carriers

    secret = key.subkey("spread")
    return carriers(secret, WIDE) if side >= LARGE else carriers(secret, NARROW, side >= SMALL)


def _kinds(key: Key, side: int) -> tuple[Carriers, ...]:
    """What a picture of this size may bear: the pattern of its size, or of one that it is a part of."""
    sizes = (LARGE,) if side > 2 * LARGE else (LARGE, SMALL, LEAST)
    native = _carriers(key, side)
    return (native, *(keyed for keyed in (_carriers(key, size) for size in sizes) if keyed is not native))


def _reductions(side: int) -> tuple[float, ...]:
    """Whole factors by which small pictures are often enlarged to be shown."""
    return (1.0, *(float(times) for times in (2, 3, 4, 8) if LEAST <= side / times < LARGE and side <= 2 * LARGE))
