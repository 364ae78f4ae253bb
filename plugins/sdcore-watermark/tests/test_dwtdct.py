"""The scheme ``dwtdct``: the bits of today's tools, in and out."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_watermark import Key, detect, mark
from sdcore_watermark.backends import dwtdct

from sdcore import RequestError

Photo = Callable[..., Image.Image]


@pytest.fixture(scope="session")
def library() -> Any:
    pytest.importorskip("cv2")
    pytest.importorskip("pywt")
    return pytest.importorskip("imwatermark")


@pytest.fixture(scope="session")
def calm(photo: Photo) -> Image.Image:
    """A picture with mild colours: where red, green or blue are clipped, this scheme's bits are lost."""
    return photo(512).point(lambda value: 80 + value // 3)


@pytest.mark.parametrize("name", list(dwtdct.NAMED))
@pytest.mark.parametrize("size", [(512, 512), (301, 515)])
def test_bit_for_bit_what_the_library_writes(photo: Photo, library: Any, name: str, size: tuple[int, int]) -> None:
    pixels = np.asarray(photo(515).crop((0, 0, *size)))
    bits = dwtdct.NAMED[name]
    encoder = library.WatermarkEncoder()
    encoder.set_watermark("bits", [int(bit) for bit in bits])
    theirs = encoder.encode(np.ascontiguousarray(pixels[..., ::-1]), "dwtDct")[..., ::-1]
    assert np.array_equal(dwtdct.write(pixels, bits), theirs)


def test_the_library_reads_it(calm: Image.Image, library: Any) -> None:
    marked = dwtdct.write(np.asarray(calm), dwtdct.NAMED["StableDiffusionV1"])
    decoder = library.WatermarkDecoder("bytes", 136)
    assert decoder.decode(np.ascontiguousarray(marked[..., ::-1]), "dwtDct") == b"StableDiffusionV1"


@pytest.mark.parametrize("name", list(dwtdct.NAMED))
def test_the_text_is_named(calm: Image.Image, key: Key, name: str) -> None:
    pixels = dwtdct.write(np.asarray(calm), dwtdct.NAMED[name])
    found = detect(Image.fromarray(pixels), key, scheme="dwtdct")
    assert found.geometry["text"] == name
    assert found.geometry["agreement"] > 0.97
    assert found.p_value < 1e-6
    assert detect(calm, key, scheme="dwtdct").p_value > 0.01


def test_texts_that_agree_because_both_are_mostly_zeros_are_no_evidence() -> None:
    text = dwtdct.NAMED["SDV2"]
    assert dwtdct.text_p_value(np.zeros(32, bool), text) == 1.0
    assert dwtdct.text_p_value(text > 0, text) < 1e-8
    few = text.copy()
    few[np.flatnonzero(few)[:6]] = 0
    assert dwtdct.text_p_value(few > 0, text) > 1e-5


def test_a_payload_comes_back_and_does_not_survive_jpeg(calm: Image.Image, key: Key) -> None:
    made = mark(calm, key, 0xDEADBEEF, scheme="dwtdct")
    assert detect(made.image, key, scheme="dwtdct").payload == 0xDEADBEEF
    buffer = io.BytesIO()
    made.image.save(buffer, "JPEG", quality=85)
    assert detect(made.image, key, scheme="dwtdct", payload=0xDEADBEEF).p_value < 1e-9
    lost = detect(Image.open(buffer), key, scheme="dwtdct", payload=0xDEADBEEF)
    assert lost.payload is None
    assert lost.p_value > 1e-3


def test_small_pictures_are_refused_not_passed_over(photo: Photo, key: Key) -> None:
    with pytest.raises(RequestError, match="255x255"):
        mark(photo(255), key, scheme="dwtdct")
