"""Schemes that are networks: what is said where they cannot run, and that they run where they can."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from PIL import Image
from sdcore_watermark import Key, detect, embed
from sdcore_watermark.backends import onnx, rivagan

from sdcore import RequestError

Photo = Callable[..., Image.Image]


def test_rivagan_without_its_networks(photo: Photo, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivagan, "folder_of", lambda package: None)
    with pytest.raises(RequestError, match="pip install --no-deps invisible-watermark"):
        embed(photo(64), key, scheme="rivagan")


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RequestError, match=r"sdcore-watermark\[trustmark\]"):
        onnx.session("some.onnx", "trustmark")


def test_trustmark_without_files(photo: Photo, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDCORE_TRUSTMARK_ENCODER", raising=False)
    with pytest.raises(RequestError, match="SDCORE_TRUSTMARK_ENCODER"):
        embed(photo(64), key, scheme="trustmark")
    monkeypatch.setenv("SDCORE_TRUSTMARK_DECODER", "nowhere.onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(RequestError, match=r"no file nowhere\.onnx"):
        detect(photo(64), key, scheme="trustmark")


@pytest.mark.slow
def test_rivagan_marks_and_reads(photo: Photo, key: Key) -> None:
    pytest.importorskip("onnxruntime")
    if onnx.folder_of(rivagan.PACKAGE) is None:
        pytest.skip("invisible-watermark is not installed")
    marked = embed(photo(256), key, 0xDEADBEEF, scheme="rivagan")
    read = detect(marked, key, scheme="rivagan")
    assert read.payload is not None
    assert rivagan.matching_p_value(read.payload, 0xDEADBEEF) < 1e-6
    assert read.p_value == 1.0
