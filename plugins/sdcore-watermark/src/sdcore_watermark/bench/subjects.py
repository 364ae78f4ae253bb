"""What is measured: schemes of this package, and the methods of invisible-watermark where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sdcore_watermark.detection import matching_p_value
from sdcore_watermark.keys import Key
from sdcore_watermark.schemes import scheme_of

if TYPE_CHECKING:
    from PIL.Image import Image

BITS = 32


@dataclass(frozen=True)
class Outcome:
    """What a detector made of one picture.

    Attributes:
        found: a mark is there, at the rate of false alarms asked for.
        matched: bits of 32 that agree with the payload; None where none are borne.
        exact: the payload was read, and is right.
        wrong: a payload was reported, and is wrong.
    """

    found: bool
    matched: int | None
    exact: bool
    wrong: bool


class Subject(Protocol):
    """Something that marks and detects."""

    name: str

    def embed(self, image: Image, payload: int) -> Image:
        """A marked picture; RequestError if it cannot be marked."""

    def detect(self, image: Image, payload: int) -> Outcome:
        """What is found in a picture that bore the payload."""


class Ours:
    """A scheme of this package, or of another."""

    def __init__(self, name: str, key: Key, psnr: float, fpr: float, search: str) -> None:
        self.name = name
        self._scheme = scheme_of(name)
        self._key, self._psnr, self._fpr, self._search = key, psnr, fpr, search

    def embed(self, image: Image, payload: int) -> Image:
        """A marked picture."""
        return self._scheme.embed(image, self._key, payload, self._psnr).image

    def detect(self, image: Image, payload: int) -> Outcome:
        """Found by the p-value; schemes that give none by the number of bits that agree."""
        found = self._scheme.detect(image, self._key, self._search)
        if not self._scheme.keyed:
            return by_bits(found.guess, payload, self._fpr)
        matched = None if found.guess is None else BITS - (found.guess ^ payload).bit_count()
        right = found.payload == payload
        return Outcome(found.found(self._fpr), matched, right, found.payload is not None and not right)


class Library:
    """A method of invisible-watermark (``dwtDct``, ``dwtDctSvd``)."""

    def __init__(self, method: str, fpr: float) -> None:
        self.name = f"imwatermark-{method}"
        self._method, self._fpr = method, fpr

    def embed(self, image: Image, payload: int) -> Image:
        """A marked picture."""
        from PIL import Image as PIL

        encoder: Any = importlib.import_module("imwatermark").WatermarkEncoder()
        encoder.set_watermark("bits", [(payload >> (31 - bit)) & 1 for bit in range(BITS)])
        marked = encoder.encode(np.ascontiguousarray(np.asarray(image)[..., ::-1]), self._method)
        return PIL.fromarray(np.ascontiguousarray(marked[..., ::-1]))

    def detect(self, image: Image, payload: int) -> Outcome:
        """Found by the number of bits that agree."""
        decoder: Any = importlib.import_module("imwatermark").WatermarkDecoder("bits", BITS)
        try:
            bits = decoder.decode(np.ascontiguousarray(np.asarray(image)[..., ::-1]), self._method)
        except RuntimeError:  # smaller than 256x256
            return Outcome(False, None, False, False)
        return by_bits(int("".join(str(int(bit)) for bit in bits), 2), payload, self._fpr)


def by_bits(read: int | None, payload: int, fpr: float) -> Outcome:
    """Found if as many bits agree as fair coins do at the rate of false alarms: 30 of 32 for 1e-6."""
    if read is None:
        return Outcome(False, None, False, False)
    matched = BITS - (read ^ payload).bit_count()
    return Outcome(matching_p_value(read, payload, BITS) <= fpr, matched, read == payload, read != payload)


def subjects(names: list[str], key: Key, psnr: float, fpr: float, search: str) -> list[Subject]:
    """What the names stand for; ``imwatermark-METHOD`` is the library's."""
    prefix = "imwatermark-"
    return [
        Library(name.removeprefix(prefix), fpr) if name.startswith(prefix) else Ours(name, key, psnr, fpr, search)
        for name in names
    ]


def default_names() -> list[str]:
    """``spread``, and what it is compared with, as far as that is installed."""
    names = ["spread"]
    if importlib.util.find_spec("imwatermark"):
        if importlib.util.find_spec("cv2") and importlib.util.find_spec("pywt"):
            names += ["imwatermark-dwtDct", "imwatermark-dwtDctSvd"]
        else:
            names += ["dwtdct"]
        if importlib.util.find_spec("onnxruntime"):
            names += ["rivagan"]
    return names
