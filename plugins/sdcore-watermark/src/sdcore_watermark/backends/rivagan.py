"""The scheme ``rivagan``: a learned watermark of 32 bits (Zhang et al. 2019, arXiv 1909.01285), without a key.

The two networks are in the wheel of invisible-watermark, of which nothing but these files is used:
``pip install --no-deps invisible-watermark`` leaves out the libraries that it would bring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sdcore import RequestError
from sdcore_watermark.detection import Detection
from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import Marked, WatermarkScheme

from .onnx import folder_of, session

if TYPE_CHECKING:
    from PIL.Image import Image

PACKAGE = "imwatermark"
THRESHOLD = 0.52


class RivaGan(WatermarkScheme):
    """RivaGAN. It does not heed ``psnr`` (about 40.5 dB)."""

    name: ClassVar[str] = "rivagan"
    keyed: ClassVar[bool] = False
    steered: ClassVar[bool] = False
    tells: ClassVar[bool] = False

    def embed(self, image: Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        """Mark a picture: seconds on a CPU.

        Raises:
            RequestError: a dependency is missing.
        """
        from PIL import Image as PIL

        from sdcore_watermark.spread.perception import luma, ssim
        from sdcore_watermark.spread.perception import psnr as measure

        before = np.asarray(image)
        bits = np.array([[(payload >> (31 - bit)) & 1 for bit in range(32)]], np.float32)
        seen = _network("encoder").run(None, {"frame": _frame(before), "data": bits})[0]
        values = (np.clip(seen[0, :, 0], -1, 1).transpose(1, 2, 0) + 1) * 127.5
        after = np.ascontiguousarray(values.astype(np.uint8)[..., ::-1])
        return Marked(PIL.fromarray(after), measure(before, after), ssim(luma(before), luma(after)), payload)

    def detect(self, image: Image, key: Key, search: str = "auto") -> Detection:
        """Read 32 bits.

        Whether there is a mark at all the network does not say, every picture gives some bits: hence the p-value is 1,
        and what was read is but a ``guess``. :func:`sdcore_watermark.detect` with ``payload`` tells whether it is that.
        """
        told = np.asarray(_network("decoder").run(None, {"frame": _frame(np.asarray(image))})[0][0], np.float64)
        payload = int("".join("1" if value > THRESHOLD else "0" for value in told), 2)
        confidence = tuple(float(min(max(abs(value - THRESHOLD) + 0.5, 0.5), 1.0)) for value in told)
        score = float(np.mean(np.abs(told - THRESHOLD)) * 2)
        return Detection(self.name, 1.0, score, None, confidence, {}, "", payload)


def _frame(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, 1, height, width) blue, green, red in [-1, 1]."""
    scaled = rgb[..., ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None, :, None])


def _network(part: str) -> Any:
    folder = folder_of(PACKAGE)
    file = folder / f"rivagan_{part}.onnx" if folder is not None else None
    if file is None or not file.is_file():
        raise RequestError(
            "scheme rivagan takes its networks from invisible-watermark, which is not installed: "
            "pip install --no-deps invisible-watermark, and pip install 'sdcore-watermark[rivagan]'"
        )
    return session(str(file), "rivagan")
