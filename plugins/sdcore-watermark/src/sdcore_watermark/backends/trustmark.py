"""The scheme ``trustmark``: Adobe's learned watermark (Bui et al. 2023, arXiv 2311.18297), from ONNX files of the user.

The files are named by the environment variables ``SDCORE_TRUSTMARK_ENCODER`` and ``SDCORE_TRUSTMARK_DECODER``. They
are expected as the TrustMark project exports them: the encoder takes a picture (1, 3, 256, 256) in [-1, 1] and a
secret of 100 bits, the decoder a picture and gives 100 logits. The 32-bit payload stands in them three times; the last
four bits are 0. That is no layout of TrustMark's own: its readers see the raw bits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sdcore import RequestError
from sdcore_watermark.detection import Detection
from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import Marked, WatermarkScheme

from .onnx import session

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE, SECRET = 256, 100


class TrustMark(WatermarkScheme):
    """TrustMark, from files of the user. It has no key; the residual is scaled to ``psnr``."""

    name: ClassVar[str] = "trustmark"
    keyed: ClassVar[bool] = False

    def embed(self, image: Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        """Mark a picture of any size: the residual is made at 256x256 and enlarged.

        Raises:
            RequestError: a file or onnxruntime is missing, or the network takes something else.
        """
        from PIL import Image as PIL

        from sdcore_watermark.spread.perception import luma, ssim
        from sdcore_watermark.spread.perception import psnr as measure

        before = np.asarray(image)
        small = _small(image)
        bits = [(payload >> (31 - bit)) & 1 for bit in range(32)]
        secret = np.array([bits * 3 + [0] * (SECRET - 96)], np.float32)
        residual = (_run("ENCODER", small, secret) - small)[0].transpose(1, 2, 0) * 127.5
        full = np.stack(
            [np.asarray(PIL.fromarray(residual[..., c]).resize(image.size, PIL.Resampling.BICUBIC)) for c in range(3)],
            -1,
        )
        error = float(np.mean(full.astype(np.float64) ** 2))
        scale = np.sqrt(255**2 / 10 ** (psnr / 10) / error) if error else 0.0
        after = np.clip(np.rint(before + full * np.float32(scale)), 0, 255).astype(np.uint8)
        return Marked(PIL.fromarray(after), measure(before, after), ssim(luma(before), luma(after)), payload)

    def detect(self, image: Image, key: Key, search: str = "auto") -> Detection:
        """Read the payload; the p-value is that of the agreement of its three copies and the four zeros."""
        from scipy.stats import binom

        told = np.asarray(_run("DECODER", _small(image)), np.float64).ravel()[:SECRET]
        soft = told[:96].reshape(3, 32).sum(0)
        bits = soft > 0
        agree = int(((told[:96].reshape(3, 32) > 0) == bits).sum()) - 64 + int((told[96:] <= 0).sum())
        # Of three fair coins two agree always, and the third one with them in one of four cases; a half is careful.
        p = float(binom.sf(max(agree, 0) - 1, 36, 0.5))
        confidence = tuple(float(value) for value in 1 / (1 + np.exp(-np.abs(soft))))
        payload = int("".join("1" if bit else "0" for bit in bits), 2)
        return Detection(self.name, p, float(agree), payload, confidence, {}, "", payload)


def _small(image: Image) -> NDArray[np.float32]:
    from PIL import Image as PIL

    pixels = np.asarray(image.resize((SIZE, SIZE), PIL.Resampling.BILINEAR), np.float32) / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _run(part: str, *inputs: NDArray[np.float32]) -> Any:
    variable = f"SDCORE_TRUSTMARK_{part}"
    path = os.environ.get(variable)
    if not path:
        raise RequestError(
            f"scheme trustmark runs on your ONNX files: set {variable} to the {part.lower()}'s path "
            "(the models are not in any package; see https://github.com/adobe/trustmark)"
        )
    network = session(path, "trustmark")
    wanted = [node.name for node in network.get_inputs()]
    if len(wanted) != len(inputs):
        raise RequestError(f"{path} takes {len(wanted)} inputs, the {part.lower()} of TrustMark takes {len(inputs)}")
    return network.run(None, dict(zip(wanted, inputs, strict=True)))[0]
