"""Pictures and latents to start from."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdcore import Engine, ImageError, SdcoreError

Refused = Callable[..., str]
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)
START: dict[str, Any] = {"seed": 1, "steps": 2, "strength": 0.5}


def png(image: Image.Image = PICTURE, fmt: str = "PNG") -> bytes:
    written = io.BytesIO()
    image.save(written, fmt)
    return written.getvalue()


def header_of(width: int, height: int) -> bytes:
    """A PNG file that claims a size, without any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (png()[:-400], ["truncated"]),
        (png(fmt="JPEG")[:200], ["truncated"]),
        (png(Image.new("RGB", (1, 1))), ["1x1", "at least 8"]),
        (Image.new("RGB", (7, 900)), ["7x900", "at least 8"]),
        (header_of(20_000, 20_000), ["20000x20000", "400,000,000", "500,000", "max_pixels"]),
        (b"", ["empty"]),
        (b"%PDF-1.7 no picture at all", ["not a picture", "%PDF-1.7", "PNG"]),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["not a picture", "<svg"]),
        ("no-such-file.png", ["no file", "no-such-file.png", "check the path"]),
        ("", ["image"]),
        ("a\0b.png", ["image"]),
        ("https://example.org/a.png", ["address", "download"]),
        ("data:image/png;base64,@@@@", ["base64"]),
        ("data:image/png,abcd", ["no base64 data URI"]),
        ("data:image/png;base64," + base64.b64encode(png()[:60]).decode(), ["data URI", "truncated"]),
        (NOISE, ["ndarray", "path", "PIL.Image"]),
        (5, ["int is no picture"]),
        ([PICTURE], ["list is no picture"]),
        ({"asset": "pixels"}, ["dict is no picture"]),
    ],
)
def test_what_is_no_picture(refused: Refused, image: Any, words: list[str]) -> None:
    refused(ImageError, *words, image=image)


def test_a_folder(refused: Refused, tmp_path: Path) -> None:
    refused(ImageError, str(tmp_path), "not a file", image=tmp_path)


def test_the_limit_can_be_set(engine: Engine, folder: Path) -> None:
    image = Image.new("RGB", (100, 100), "red")
    with pytest.raises(ImageError, match="10,000 pixels; the limit is 9,999"):
        Engine(engine.model, plugins=(), max_pixels=9_999).generate("a", image=image)
    assert Engine(engine.model, plugins=(), max_pixels=10_000).generate("a", image=image, **START).image.size == (
        100,
        100,
    )


ALPHA = Image.merge("RGBA", (*PICTURE.split(), Image.linear_gradient("L").resize(PICTURE.size)))


@pytest.mark.parametrize(
    "image",
    [
        png(),
        png(fmt="JPEG"),
        png(fmt="WEBP"),
        "data:image/png;base64," + base64.b64encode(png()).decode(),
        PICTURE,
        PICTURE.convert("P", palette=Image.Palette.ADAPTIVE),
        PICTURE.convert("L"),
        PICTURE.convert("1"),
        PICTURE.convert("CMYK"),
        PICTURE.convert("YCbCr"),
        ALPHA,
        Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257),
        Image.fromarray(NOISE[..., 0].astype(np.float32) / 255),
    ],
)
def test_pictures_of_every_kind_work(engine: Engine, image: Any, unharmed: Callable[[], None]) -> None:
    result = engine.generate("a", image=image, **START)
    assert result.image.size == (32, 24)
    unharmed()


def test_a_path(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    by_path, by_text, in_memory = (engine.generate("a", image=image, **START) for image in (path, str(path), PICTURE))
    assert by_path.image == by_text.image == in_memory.image


def test_what_is_given_stays_as_it_is(engine: Engine) -> None:
    given = ALPHA.copy()
    latents = torch.ones(1, 4, 4, 4)
    engine.generate("a", image=given, **START)
    engine.generate("a", image=latents, **START)
    assert (given.mode, given.tobytes()) == (ALPHA.mode, ALPHA.tobytes())
    assert torch.equal(latents, torch.ones(1, 4, 4, 4))


def nan(*shape: int) -> torch.Tensor:
    latents = torch.zeros(shape)
    latents[..., 0, 0] = float("nan")
    return latents


@pytest.mark.parametrize(
    ("latents", "words"),
    [
        (torch.zeros(3, 16, 16), ["(1, 4, height/4, width/4)", "(3, 16, 16)", "PIL image"]),
        (torch.zeros(1, 3, 16, 16), ["(1, 3, 16, 16)"]),
        (torch.zeros(2, 4, 4, 4), ["(2, 4, 4, 4)"]),
        (torch.zeros(4, 4), ["(4, 4)"]),
        (torch.zeros(1, 4, 0, 4), ["(1, 4, 0, 4)"]),
        (torch.tensor(1.0), ["()"]),
        (nan(1, 4, 4, 4), ["not finite"]),
        (torch.full((1, 4, 4, 4), float("inf")), ["not finite"]),
        (torch.zeros(1, 4, 4, 4, dtype=torch.int64), ["int64"]),
        (torch.zeros(1, 4, 4, 4, device="meta"), ["without values"]),
        (torch.zeros(1, 4, 4, 4).to_sparse(), ["sparse"]),
        (torch.zeros(1, 4, 8, 8), ["for 32x32", "says 16x16", "leave height and width out"]),
    ],
)
def test_wrong_latents(refused: Refused, latents: torch.Tensor, words: list[str]) -> None:
    refused(ImageError, *words, image=latents)


def test_latents_for_another_number_of_pictures(refused: Refused) -> None:
    refused(ImageError, "(1 or 3, 4,", "(2, 4, 4, 4)", image=torch.zeros(2, 4, 4, 4), count=3)


def test_latents_of_a_size_that_is_too_large(refused: Refused) -> None:
    refused(SdcoreError, "max_pixels", image=torch.zeros(1, 4, 200, 200), height=None, width=None)
