"""The check ``open-nsfw``: Yahoo's classifier as an ONNX file of the user's, a second opinion on photographs."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.files import sha256_file
from sdcore_safety.check import CheckSettings, ImageCheck

if TYPE_CHECKING:
    from PIL.Image import Image

SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
MEAN = (104.0, 117.0, 123.0)
"""Mean of blue, green and red, which the network was trained without."""


def to_input(image: Image) -> Any:
    """(1, 224, 224, 3) float32, blue first, as the network was trained: 256 pixels, JPEG, the middle 224, no mean."""
    import numpy as np
    from PIL.Image import Resampling, open

    small = image.convert("RGB").resize((256, 256), Resampling.BILINEAR).crop((16, 16, 240, 240))
    with io.BytesIO() as stream:
        small.save(stream, format="JPEG")
        values = np.asarray(open(stream), dtype=np.float32)
    return (values[:, :, ::-1] - np.array(MEAN, np.float32))[None]


class OpenNsfwCheck(ImageCheck):
    """The probability that a photograph is not safe for work."""

    name = "open-nsfw"
    version = "0.0.6"
    categories = ("sexual",)

    def __init__(self, settings: CheckSettings) -> None:
        """Open the file ``path`` of the settings; ``sha256`` there accepts another file than the known one.

        Raises:
            ValueError: no path, or another file. ImportError: onnxruntime is not installed. OSError: no such file.
        """
        super().__init__(settings)
        path = settings.values.get("path")
        if not path:
            raise ValueError("it needs Safety(open_nsfw='open-nsfw.onnx'); the README says where the file comes from")
        expected = settings.values.get("sha256", SHA256)
        self._digest = sha256_file(path)
        if self._digest != expected:
            raise ValueError(f"{Path(path).name} has SHA-256 {self._digest}, expected {expected}")
        try:
            onnxruntime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise ImportError("it needs onnxruntime: pip install onnxruntime") from error
        settings_ = onnxruntime.SessionOptions()
        settings_.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), settings_, providers=["CPUExecutionProvider"])

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the file."""
        return self._digest

    def score(self, image: Image) -> Mapping[str, float]:
        """Of one picture."""
        name = self._session.get_inputs()[0].name
        (found, *_) = self._session.run(None, {name: to_input(image)})
        return {"sexual": float(found[0][1])}
