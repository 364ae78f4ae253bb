"""Schemes of others, with and without an engine; what importing costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from PIL import Image
from sdcore_watermark import Detection, Key, Marked, WatermarkScheme, detect, embed, schemes

from sdcore import Contributions, Engine, Plugin, Registry, RequestError, hookimpl
from sdcore.testing.tiny import tiny_folder


class Corner(WatermarkScheme):
    """Writes the payload into the first pixel."""

    name = "corner"
    bits = 8
    keyed = False

    def embed(self, image: Image.Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        marked = image.copy()
        marked.putpixel((0, 0), (payload, payload, payload))
        return Marked(marked, 60.0, 1.0, payload)

    def detect(self, image: Image.Image, key: Key, search: str = "auto") -> Detection:
        value = image.getpixel((0, 0))
        assert isinstance(value, tuple)
        return Detection(self.name, 0.0, 1.0, int(value[0]), (), {}, "")


class Broken:
    """No scheme."""


def entries(monkeypatch: pytest.MonkeyPatch, **named: str) -> None:
    found = [EntryPoint(name, value, schemes.GROUP) for name, value in named.items()]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found if group == schemes.GROUP else [])


def test_a_scheme_of_an_installed_package(monkeypatch: pytest.MonkeyPatch, key: Key) -> None:
    monkeypatch.setitem(sys.modules, "corner_scheme", sys.modules[__name__])
    entries(monkeypatch, corner="corner_scheme:Corner", broken="corner_scheme:Broken", gone="corner_scheme:Gone")
    marked = embed(Image.new("RGB", (8, 8)), key, 9, scheme="corner")
    assert detect(marked, key, scheme="corner").payload == 9
    with pytest.raises(RequestError, match="from 0 to 255"):
        embed(marked, key, 256, scheme="corner")
    with pytest.raises(RequestError, match="no WatermarkScheme"):
        embed(marked, key, 1, scheme="broken")
    with pytest.raises(RequestError, match="cannot be loaded"):
        embed(marked, key, 1, scheme="gone")


class CornerPlugin(Plugin):
    name = "corner"

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.add("watermark_scheme", "corner", Corner)

    @hookimpl
    def output(self, run: Any) -> Contributions:
        return None


def test_a_scheme_of_another_plugin_in_an_engine(key_file: str) -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=["watermark", CornerPlugin], device="cpu", dtype="float32")
    use = {"plugin": "watermark", "options": {"scheme": "corner", "key": key_file, "payload": 200}}
    result = engine.generate("a cat", seed=1, steps=1, use=[use])
    assert result.image.getpixel((0, 0)) == (200, 200, 200)
    with pytest.raises(RequestError, match="there is no watermark scheme 'cornr'"):
        engine.generate("a cat", seed=1, steps=1, use=[{"plugin": "watermark", "options": {"scheme": "cornr"}}])


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Neither by importing the package, nor by registering the plugin, nor, but for scipy, by marking."""
    script = """
import sys
import sdcore_watermark, sdcore_watermark.plugin
from sdcore.host import PluginHost
PluginHost(["watermark"])
heavy = ("torch", "scipy", "cv2", "c2pa", "onnxruntime", "imwatermark", "pywt")
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
from PIL import Image
from sdcore_watermark import Key, detect, embed
key = Key.generate()
detect(embed(Image.new("RGB", (64, 64), "gray"), key), key, search="fast")
heavy = ("torch", "cv2", "c2pa", "onnxruntime", "imwatermark", "pywt")
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
