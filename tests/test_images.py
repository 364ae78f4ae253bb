"""Pictures that users give: every form comes out as the RGB that a viewer would show, or as an error."""

from __future__ import annotations

import base64
import io
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from sdcore.errors import ImageError, RequestError, SdcoreError
from sdcore.images import contact_sheet, image_sha256, image_to_tensor, load_image, tensors_to_images


def encoded(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def noise(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose head promises a size that its few bytes do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


# --- where a picture comes from


def test_path_text_bytes_data_uri_and_picture_give_the_same(tmp_path: Path) -> None:
    picture = noise()
    data = encoded(picture)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (path, str(path), data, uri, picture):
        assert same(load_image(source), picture)


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
def test_formats(fmt: str) -> None:
    grey = Image.new("RGB", (16, 16), (128, 128, 128))
    assert load_image(encoded(grey, fmt)).getpixel((3, 3)) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_avif() -> None:
    grey = Image.new("RGB", (16, 16), (128, 128, 128))
    assert load_image(encoded(grey, "AVIF")).getpixel((3, 3)) == pytest.approx((128, 128, 128), abs=2)


def test_the_given_picture_is_neither_changed_nor_shared() -> None:
    picture = noise()
    loaded = load_image(picture)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert same(picture, noise())


def test_metadata_does_not_stay_on_the_picture() -> None:
    exif = Image.Exif()
    exif[0x010E] = "my home"
    loaded = load_image(encoded(noise(), "PNG", exif=exif, icc_profile=b"profile"))
    assert loaded.info == {}
    assert b"my home" not in encoded(loaded)


# --- what it looks like


def test_exif_orientation_is_applied() -> None:
    picture = noise(24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert same(load_image(encoded(picture, "PNG", exif=exif)), picture.transpose(Image.Transpose.ROTATE_270))


def test_alpha_is_put_onto_white_or_kept() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.putpixel((1, 1), (255, 0, 0, 255))
    picture.putpixel((2, 2), (0, 0, 0, 51))
    loaded = load_image(encoded(picture))
    assert [loaded.getpixel((i, i)) for i in range(3)] == [(255, 255, 255), (255, 0, 0), (204, 204, 204)]
    assert same(load_image(encoded(picture), keep_alpha=True), picture)
    assert load_image(noise(), keep_alpha=True).mode == "RGB"


def test_palette_with_a_transparent_colour() -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((0, 0), 1)
    assert load_image(encoded(picture)).getpixel((1, 1)) == (10, 20, 30)
    loaded = load_image(encoded(picture, transparency=0))
    assert loaded.getpixel((1, 1)) == (255, 255, 255)
    assert loaded.getpixel((0, 0)) == (200, 100, 50)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.full((8, 8), 32896, dtype=np.uint16)
    values[0] = [0, 1, 128, 129, 257, 300, 65278, 65535]
    for fmt in ("PNG", "TIFF", "PPM"):
        loaded = np.array(load_image(encoded(Image.fromarray(values), fmt)))
        assert loaded[0, :, 0].tolist() == [0, 0, 0, 1, 1, 1, 254, 255]
        assert (loaded[1:] == 128).all()


def test_floats_and_32_bit_integers() -> None:
    half = Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32))
    assert load_image(encoded(half, "TIFF")).getpixel((0, 0)) == (128, 128, 128)
    for wrong in (np.full((8, 8), 7.5, np.float32), np.full((8, 8), np.nan, np.float32)):
        with pytest.raises(ImageError, match="8 or 16 bits"):
            load_image(Image.fromarray(wrong))
    with pytest.raises(ImageError, match="100000"):
        load_image(Image.fromarray(np.full((8, 8), 100000, np.int32)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "HSV"])
def test_other_modes_look_as_they_did(mode: str) -> None:
    # Black and white survive every one of them.
    picture = Image.new("RGB", (8, 8), "white")
    picture.paste("black", (0, 0, 4, 8))
    loaded = np.array(load_image(picture.convert(mode))).astype(int)
    assert np.abs(loaded - np.array(picture)).max() <= 1


def test_cmyk_jpeg() -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = load_image(encoded(ink, "JPEG", quality=100)).getpixel((5, 5))  # type: ignore[misc]
    assert (red, green, blue) == pytest.approx((0, 255, 255), abs=4)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for fmt in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:])
        pixel = load_image(data).getpixel((4, 4))
        assert pixel == pytest.approx((255, 0, 0), abs=3)


# --- what is refused


def test_missing_file_folder_and_address(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"init image: there is no file .*nothing\.png"):
        load_image(tmp_path / "nothing.png", name="init image")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="address"):
        load_image("https://example.org/a.png")
    with pytest.raises(ImageError):
        load_image("a\0b.png")


def test_a_very_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(ImageError) as caught:
        load_image(base64.b64encode(encoded(noise())).decode() * 20)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("kept", [12, 40, 0.3, 0.9])
def test_truncated(fmt: str, kept: float) -> None:
    data = encoded(noise(64, 64), fmt)
    cut = data[: kept if isinstance(kept, int) else int(len(data) * kept)]
    with warnings.catch_warnings():
        # Pillow may mention what it met; only the error is ours.
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError):
            load_image(cut)


@pytest.mark.parametrize("data", [b"", b"x", b"hello, this is a text", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P"])
def test_not_a_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a picture"):
        load_image(data)


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (64, 7)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]} pixels.*at least 8"):
        load_image(encoded(Image.new("RGB", size)))


@pytest.mark.parametrize("side", [8_001, 12_000, 20_000])
def test_too_many_pixels_are_refused_from_the_header_without_a_warning(side: int) -> None:
    # 12,000 squared is where Pillow warns, 20,000 squared where it raises by itself.
    with pytest.raises(ImageError, match=f"{side}x{side}.*the limit is 64,000,000.*max_pixels"):
        load_image(huge_png(side, side))


def test_a_format_that_allocates_when_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too many pixels"):
        load_image(data)


def test_the_limit_can_be_set_beyond_the_limits_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert load_image(encoded(noise())).size == (24, 16)
    with pytest.raises(ImageError, match="384 pixels; the limit is 383"):
        load_image(encoded(noise()), max_pixels=383)
    with pytest.raises(ImageError, match="limit"):
        load_image(noise(), max_pixels=383)


@pytest.mark.parametrize("uri", ["data:image/png,abc", "data:image/png;base64", "data:image/png;base64,@@@"])
def test_wrong_data_uris(uri: str) -> None:
    with pytest.raises(ImageError, match=r"data URI|base64"):
        load_image(uri)


def test_another_type_is_refused() -> None:
    with pytest.raises(ImageError, match="ndarray is no picture"):
        load_image(np.zeros((8, 8, 3)))  # type: ignore[arg-type]


def test_loading_in_threads() -> None:
    results: list[bool] = []
    data = encoded(noise())
    jobs = [threading.Thread(target=lambda: results.append(same(load_image(data), noise()))) for _ in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert results == [True] * 8


# --- pixels and tensors


def test_bit_identical_with_diffusers() -> None:
    from diffusers.image_processor import VaeImageProcessor

    theirs = VaeImageProcessor(vae_scale_factor=8)
    for picture, size in ((noise(64, 48), (48, 64)), (noise(100, 37), (64, 96)), (noise(16, 16), (128, 64))):
        expected = theirs.preprocess(picture, height=size[0], width=size[1])
        ours = image_to_tensor(picture, *size, device="cpu", dtype=torch.float32)
        assert ours.shape == (1, 3, *size)
        assert torch.equal(ours, expected)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tensor = (torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 0.8).to(dtype)
        expected_pictures = theirs.postprocess(tensor, output_type="pil")
        assert all(map(same, tensors_to_images(tensor), expected_pictures))


def test_every_pixel_survives_the_way_to_a_tensor_and_back() -> None:
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    tensor = image_to_tensor(picture, 16, 16, device="cpu", dtype=torch.float32)
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)
    assert same(tensors_to_images(tensor)[0], picture)


def test_nan_is_an_error_and_not_a_black_picture() -> None:
    tensor = torch.zeros(3, 3, 8, 8)
    tensor[1, 0, 0, 0] = float("nan")
    with pytest.raises(SdcoreError, match=r"NaN for picture 1 of 3.*float32"):
        tensors_to_images(tensor)


def test_sha256_is_of_pixels_mode_and_size_only() -> None:
    picture = noise()
    again = load_image(encoded(picture, "PNG", icc_profile=b"x"))
    assert image_sha256(again) == image_sha256(picture)
    changed = picture.copy()
    changed.putpixel((0, 0), (0, 0, 0))
    wide = Image.frombytes("RGB", (48, 8), picture.tobytes())
    assert len({image_sha256(i) for i in (picture, changed, wide, picture.convert("HSV"))}) == 4


# --- sheets


def test_sheet_holds_every_picture_unscaled() -> None:
    pictures = [noise(seed=i) for i in range(5)]
    sheet = np.array(contact_sheet(pictures, labels=[f"picture {i}" for i in range(5)], title="Five"))
    for picture in pictures:
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (16, 24, 3))
        assert (windows == np.array(picture)).all((-1, -2, -3)).any()


def test_sheet_grid_and_cells() -> None:
    pictures = [noise(seed=i) for i in range(4)]
    wide = contact_sheet(pictures, columns=4)
    tall = contact_sheet(pictures, columns=1)
    assert wide.width > tall.width
    assert wide.height < tall.height
    enlarged = contact_sheet(pictures[:1], cell=100)
    doubled = np.array(pictures[0].resize((24 * 4, 16 * 4), Image.Resampling.NEAREST))
    windows = np.lib.stride_tricks.sliding_window_view(np.array(enlarged), doubled.shape)
    assert (windows == doubled).all((-1, -2, -3)).any()
    # Mixed sizes and modes, long labels, and labels that are empty or of another script.
    mixed = [noise(300, 20), Image.new("L", (8, 8)), Image.new("RGBA", (30, 90), (0, 0, 0, 0)), noise()]
    labels = ["word " * 200, "x" * 100_000, "", "リンゴ\n🍎\x07"]
    assert contact_sheet(mixed, labels=labels, title="t" * 500, cell=(64, 48)).mode == "RGB"


def test_sheet_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(RequestError, match="no pictures"):
        contact_sheet([])
    with pytest.raises(RequestError, match="1 labels for 2 pictures"):
        contact_sheet([noise(), noise()], labels=["a"])
    with pytest.raises(RequestError, match="at least 1"):
        contact_sheet([noise()], columns=0)
