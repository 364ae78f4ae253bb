from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sdcore_watermark import Key

from sdcore import Engine


@functools.cache
def _photo(side: int, seed: int) -> Image.Image:
    """Something with the spectrum of a photograph (amplitude falling as 1/f), an edge and a flat part."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    falling = 1 / np.maximum(frequency, 1 / side) ** 1.1
    channels = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * random.random(falling.shape))
        plane = np.fft.irfft2(falling * phase, s=(side, side))
        channels.append(plane / plane.std())
    pixels = 128 + 40 * (np.stack(channels, -1) * 0.4 + channels[0][..., None] * 0.8)
    pixels[: side // 3, : side // 2] = (180, 200, 220)
    pixels[side // 2 :, side * 3 // 4 :] -= 60
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photo() -> Callable[..., Image.Image]:
    """``photo(side, seed)``: a picture like a photograph."""
    return lambda side=512, seed=0: _photo(side, seed)


@pytest.fixture(scope="session")
def key() -> Key:
    return Key((bytes(range(32)),))


@pytest.fixture(scope="session")
def other() -> Key:
    return Key((bytes(range(1, 33)),))


@pytest.fixture
def key_file(tmp_path: Path, key: Key) -> str:
    return str(key.save(tmp_path / "key.json"))


@pytest.fixture(scope="session")
def mini() -> Engine:
    """The embedded model, which draws 64x64 pixels from 8x8 latents."""
    return Engine.load(plugins=["watermark"], device="cpu", dtype="float32")
