"""The scheme ``dwtdct``: what today's tools write, for reading their pictures and being read by them.

Not a watermark to rely on: it is gone after one save as JPEG. ``payload`` is 32 bits (as ``SDV2`` has); the texts of
Stable Diffusion 1, of 2, and the 48 bits of SDXL are recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from sdcore import RequestError
from sdcore_watermark.detection import Detection
from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import Marked, WatermarkScheme

from .haar import haar, luma_chroma, read_bits, to_rgb, unhaar, write_bits

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST = 256 * 256


def _text_bits(text: str) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(text.encode(), np.uint8))


NAMED: Mapping[str, NDArray[np.uint8]] = {
    "StableDiffusionV1": _text_bits("StableDiffusionV1"),
    "SDV2": _text_bits("SDV2"),
    "SDXL": np.array([int(bit) for bit in f"{0b101100111110110010010000011110111011000110011110:048b}"], np.uint8),
}
"""The bits that the scripts of Stable Diffusion 1 and 2 and diffusers' SDXL pipelines write."""


def write(rgb: NDArray[np.uint8], bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) with bits in them, as invisible-watermark 0.2.0 writes them (``dwtDct``).

    Raises:
        RequestError: the picture has fewer than 256x256 pixels.
    """
    _check_size(rgb)
    yuv = luma_chroma(rgb)
    rows, columns = rgb.shape[0] // 4 * 4, rgb.shape[1] // 4 * 4
    # The first chroma plane, and its details exchanged, as that library does.
    low, horizontal, vertical, diagonal = haar(yuv[:rows, :columns, 1])
    yuv[:rows, :columns, 1] = unhaar(write_bits(low, bits), vertical, horizontal, diagonal).astype(np.int64) & 255
    return to_rgb(yuv)


def low_of(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The band in which the bits are."""
    _check_size(rgb)
    rows, columns = rgb.shape[0] // 4 * 4, rgb.shape[1] // 4 * 4
    return haar(luma_chroma(rgb)[:rows, :columns, 1])[0]


class DwtDct(WatermarkScheme):
    """The watermark of today's tools. It has no key, and does not heed ``psnr``."""

    name: ClassVar[str] = "dwtdct"
    keyed: ClassVar[bool] = False
    steered: ClassVar[bool] = False

    def embed(self, image: Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        """Write 32 bits; ``0x53445632`` is the text ``SDV2``."""
        from PIL import Image as PIL

        from sdcore_watermark.spread.perception import luma, ssim
        from sdcore_watermark.spread.perception import psnr as measure

        before = np.asarray(image)
        bits = np.array([(payload >> (31 - bit)) & 1 for bit in range(32)], np.uint8)
        after = write(before, bits)
        return Marked(PIL.fromarray(after), measure(before, after), ssim(luma(before), luma(after)), payload)

    def detect(self, image: Image, key: Key, search: str = "auto") -> Detection:
        """Say which known text a picture bears; ``geometry`` has its name and the share of bits that agree.

        The payload is what 32 bits say, whatever text is there. Whether it is one that somebody wrote is told by
        :func:`sdcore_watermark.detect` with ``payload``; the p-value here is that of the known texts.
        """
        low = low_of(np.asarray(image))
        said = {name: read_bits(low, len(bits)) > 0.5 for name, bits in NAMED.items()}
        found = {name: text_p_value(said[name], bits) for name, bits in NAMED.items()}
        agreed = {name: float(np.mean(said[name] == (bits > 0))) for name, bits in NAMED.items()}
        best = min(found, key=lambda name: found[name])
        shares = read_bits(low, 32)
        payload = int("".join("1" if share > 0.5 else "0" for share in shares), 2)
        length = len(NAMED[best])
        score = (agreed[best] - 0.5) * 2 * length**0.5
        geometry = {"text": best, "agreement": round(agreed[best], 4)}
        confidence = tuple(float(max(share, 1 - share)) for share in shares)
        return Detection(
            self.name, min(1.0, found[best] * len(NAMED)), score, payload, confidence, geometry, "", payload
        )


def text_p_value(read: NDArray[np.bool_], text: NDArray[np.uint8]) -> float:
    """Probability that an unmarked picture's bits agree with a text in as many places as these do.

    The larger one of two: that of fair coins; and that of the same bits in a random order (hypergeometric), because
    unmarked pictures may have many more zeros than ones, as texts have. Neither is proven: a text is not drawn at
    random. Measured on 2,000 clean crops, see the README.

    Args:
        read: (n,) bits of the picture.
        text: (n,) bits, 0 or 1.
    """
    from scipy.stats import binom, hypergeom

    count, ones = len(text), int(text.sum())
    agree = int((read == (text > 0)).sum())
    both = int((read & (text > 0)).sum())
    coins = float(binom.sf(agree - 1, count, 0.5))
    return max(coins, float(hypergeom.sf(both - 1, count, ones, int(read.sum()))))


def _check_size(rgb: NDArray[np.uint8]) -> None:
    if rgb.shape[0] * rgb.shape[1] < LEAST:
        raise RequestError(
            f"the picture is {rgb.shape[1]}x{rgb.shape[0]}; scheme dwtdct needs as many pixels as 256x256 has"
        )
