"""Schemes that are networks: what is said where they cannot run, and that they run where they can."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sdcore_watermark import Key, detect, embed
from sdcore_watermark.backends import onnx, rivagan

from sdcore import RequestError
from sdcore.cli import main

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


class Reader:
    """A network that reads the bits of 0xDEADBEEF, but for the last two, from every picture."""

    def run(self, outputs: object, inputs: dict[str, object]) -> list[np.ndarray]:
        return [np.array([[float(bit) for bit in f"{0xDEADBEEF ^ 3:032b}"]], np.float32)]


def test_rivagan_cannot_tell_until_the_payload_is_known(
    photo: Photo, key: Key, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rivagan, "_network", lambda part: Reader())
    photo(64).save(tmp_path / "a.png")
    line = ["watermark", "detect", str(tmp_path / "a.png"), "--scheme", "rivagan", "--quiet"]
    assert main(line) == 4
    assert "cannot tell without --payload" in capsys.readouterr().out
    assert main([*line, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)[0]["found"] is None
    assert main([*line, "--payload", "0xdeadbeef"]) == 0
    assert "p 1.2e-07" in capsys.readouterr().out
    assert main([*line, "--payload", "0x12345678"]) == 3
    found = detect(photo(64), key, scheme="rivagan", payload=0xDEADBEEF)
    assert found.payload is None
    assert found.guess == 0xDEADBEEF ^ 3
    assert found.p_value == pytest.approx((1 + 32 + 496) / 2**32)


def test_a_keyed_scheme_needs_no_payload(photo: Photo, key: Key) -> None:
    with pytest.raises(RequestError, match="tells by its key"):
        detect(photo(64), key, payload=1)


@pytest.mark.slow
def test_rivagan_marks_and_reads(photo: Photo, key: Key) -> None:
    pytest.importorskip("onnxruntime")
    if onnx.folder_of(rivagan.PACKAGE) is None:
        pytest.skip("invisible-watermark is not installed")
    marked = embed(photo(256), key, 0xDEADBEEF, scheme="rivagan")
    read = detect(marked, key, scheme="rivagan")
    assert read.guess is not None
    assert (read.payload, read.p_value) == (None, 1.0)
    assert detect(marked, key, scheme="rivagan", payload=0xDEADBEEF).p_value < 1e-4
    assert detect(photo(256), key, scheme="rivagan", payload=0xDEADBEEF).p_value > 1e-3
