"""The record: it travels in the picture, tells when it was changed, and is not trusted when read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydantic import ValidationError

from sdcore.differences import differences
from sdcore.errors import OutputError, RecordError
from sdcore.images import image_sha256, load_image
from sdcore.parameters_text import parameters_text
from sdcore.picture_files import MAKER_NOTE, MAKER_PREFIX, Format, encode_image, format_of, read_record
from sdcore.record import MAX_BYTES, AssetRecord, ModelRecord, Record

FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp")
HASH = "0123456789abcdef" * 4
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def make(**fields: Any) -> Record:
    request = {
        "prompt": "a red apple, flat style",
        "negative_prompt": "blurry, dark",
        "steps": 20,
        "scheduler": "euler-a",
        "guidance_scale": 7.0,
        "height": 48,
        "width": 64,
        "use": [{"plugin": "lora", "options": {"path": {"asset": "s.safetensors", "sha256": HASH}}}],
    }
    given: dict[str, Any] = {
        "software": {"sdcore": "0.1.0", "torch": "2.12.0", "sdcore-lora": "0.1.0"},
        "model": ModelRecord(family="sd1", source="mini", components={"unet": HASH, "vae": HASH[::-1]}),
        "request": request | fields.pop("request", {}),
        "assets": (AssetRecord(name="s.safetensors", sha256=HASH, size=12),),
        "seed": 2**63 + 1,
        "index": 1,
        "batch": (7, 2**63 + 1),
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "plan": ("weights: lora",),
        "metadata": {"lora": {"rank": 4, "alpha": 0.1}},
        "pixels_sha256": image_sha256(PICTURE),
    }
    return Record(**(given | fields))


def forged(change: dict[str, Any], record: Record | None = None) -> str:
    """A record changed by someone who computes the digest anew."""
    body = {**json.loads((record or make()).to_json()), **change}
    del body["digest"]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return json.dumps({**body, "digest": hashlib.sha256(text.encode()).hexdigest()})


# --- as JSON


def test_json_round_trip_is_exact_and_canonical() -> None:
    record = make(request={"prompt": "リンゴ 🍎 \ud800 \x1b[31m\0", "eta": 0.1, "sigmas": [14.6, 0.03]})
    text = record.to_json()
    assert text.isascii()
    assert "\n" not in text
    assert Record.from_json(text) == record
    assert Record.from_json(text).to_json() == text
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    # Formatting is not content.
    assert Record.from_json(json.dumps(json.loads(text), indent=2)) == record


def test_a_record_is_frozen_and_holds_copies() -> None:
    request = {"prompt": "a", "sizes": (1, 2)}
    record = make(request=request)
    request["prompt"] = "changed"
    assert record.request["prompt"] == "a"
    assert record.request["sizes"] == [1, 2]
    with pytest.raises(ValidationError):
        record.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "fields",
    [
        {"request": {"image": Path("a.png")}},
        {"metadata": {"lora": {"loss": float("nan")}}},
        {"pixels_sha256": "abc"},
        {"seed": -1},
        {"unknown": 1},
        {"assets": ({"name": "../../etc/passwd", "sha256": HASH, "size": 1},)},
    ],
)
def test_what_does_not_belong_into_a_record_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(**fields)


def test_a_private_path_is_not_published() -> None:
    for source in ("/home/someone/models/x.safetensors", r"C:\Users\someone\x.safetensors", "~/x.safetensors"):
        assert ModelRecord(family="sd1", source=source, components={}).source == "x.safetensors"
    assert ModelRecord(family="sd1", source="owner/name", components={}).source == "owner/name"


@pytest.mark.parametrize("field", ["seed", "request", "plan", "digest", "pixels_sha256", "model"])
def test_any_edit_is_noticed(field: str) -> None:
    body = json.loads(make().to_json())
    body[field] = {"seed": 8, "request": {**body["request"], "prompt": "a pear"}}.get(field, "f" * 64)
    with pytest.raises(RecordError, match="was changed after it was written"):
        Record.from_json(json.dumps(body))
    del body[field]
    with pytest.raises(RecordError, match="was changed after it was written"):
        Record.from_json(json.dumps(body))


def test_a_newer_schema_names_who_wrote_it() -> None:
    text = json.dumps({"schema_version": 2, "software": {"sdcore": "3.1.0\x1b[2J"}, "new": {}})
    with pytest.raises(RecordError, match=r"schema 2, written by sdcore 3\.1\.0\?\[2J;.*upgrade sdcore"):
        Record.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"schema_version": "1"}',
        '{"schema_version": true}',
        '{"schema_version": 1, "seed": NaN}',
        '{"schema_version": 1, "schema_version": 1}',
        '{"schema_version": 1, "seed": ' + "9" * 5000 + "}",
        "[" * 200_000,
        '{"a":' * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_malformed(text: str | bytes) -> None:
    with pytest.raises(RecordError, match="malformed"):
        Record.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "7"},
        {"seed": 7.0},
        {"seed": -1},
        {"threads": True},
        {"batch": None},
        {"extra": 1},
        {"plan": ["x" * 5000]},
        {"model": {"family": "sd1", "source": "m", "components": {"unet": "../x"}}},
        {"assets": [{"name": "../../etc/passwd", "sha256": HASH, "size": 1}]},
        {"assets": [{"name": "a\nb", "sha256": HASH, "size": 1}]},
        {"\x1b[2J": 1},
    ],
)
def test_a_forged_record_still_has_to_fit_the_schema(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="malformed") as caught:
        Record.from_json(forged(change))
    assert str(caught.value).isprintable()


def test_too_big() -> None:
    with pytest.raises(RecordError, match="at most 4,194,304"):
        Record.from_json(" " * (MAX_BYTES + 1))


# --- as the text that other tools read


def parsed(text: str) -> tuple[str, str, dict[str, str]]:
    """Read the text as its readers do: settings on the last line, values quoted as JSON where needed."""
    *lines, last = text.split("\n")
    settings = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    prompt, _, negative = "\n".join(lines).partition("\nNegative prompt: ")
    return prompt, negative, {k: json.loads(v) if v.startswith('"') else v for k, v in settings}


def test_parameters_text() -> None:
    assert parameters_text(make()) == (
        "a red apple, flat style\n"
        "Negative prompt: blurry, dark\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 9223372036854775809, Size: 64x48, "
        "Model hash: 0123456789, Model: mini, Plugins: lora, Version: sdcore 0.1.0"
    )


def test_parameters_text_of_everything() -> None:
    record = make(
        request={
            "prompt": "two\r\nlines\x00\x1b[2J",
            "scheduler": "dpmpp-2m-karras",
            "guidance_scale": 7.5,
            "guidance_rescale": 0.7,
            "clip_skip": 1,
            "eta": 0.5,
            "image": {"asset": "a.png", "sha256": HASH},
            "strength": 0.75,
            "use": [{"plugin": "lora", "options": {}}, {"plugin": "freeu", "options": {}}],
        },
        model=ModelRecord(family="sd1", source="a, b: c.safetensors", components={"model": HASH}),
        metadata={
            "lora": {"parameters": {"Lora hashes": 'style: 0123, "x"', "Seed": 1, "bad, key": 1, "list": [1]}},
        },
    )
    prompt, negative, settings = parsed(parameters_text(record))
    assert prompt == "two\nlines  [2J"
    assert negative == "blurry, dark"
    assert settings == {
        "Steps": "20",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "7.5",
        "CFG rescale": "0.7",
        "Seed": str(record.seed),
        "Size": "64x48",
        "Model hash": HASH[:10],
        "Model": "a, b: c",
        "Denoising strength": "0.75",
        "Clip skip": "2",
        "Eta": "0.5",
        "Plugins": "lora, freeu",
        "Version": "sdcore 0.1.0",
        "Lora hashes": 'style: 0123, "x"',
    }


def test_parameters_text_without_optional_fields() -> None:
    record = make()
    bare = record.model_copy(update={"request": {"prompt": "a cat"}})
    assert parameters_text(bare, (64, 48)).startswith("a cat\nSeed: ")
    assert "Size: 64x48" in parameters_text(bare, (64, 48))
    assert "Size" not in parameters_text(bare)
    zsnr = parsed(parameters_text(make(request={"scheduler": "euler-a-zsnr"})))[2]
    assert (zsnr["Sampler"], zsnr["Noise Schedule"]) == ("Euler a", "Zero Terminal SNR")
    # A scheduler that a plugin registered keeps its own name.
    assert "Sampler: my-own, " in parameters_text(make(request={"scheduler": "my-own"}))
    assert "Sampler: my-own, Schedule type: Karras" in parameters_text(make(request={"scheduler": "my-own-karras"}))


# --- in picture files


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("prompt", ["a red apple", "ein Apfel, grün", "リンゴ 🍎 \ud800"])
def test_round_trip(tmp_path: Path, fmt: Format, prompt: str) -> None:
    record = make(request={"prompt": prompt})
    data = encode_image(PICTURE, fmt, record)
    path = tmp_path / f"a.{fmt}"
    path.write_bytes(data)
    assert read_record(data) == record
    assert read_record(path) == record
    assert read_record(str(path)) == record
    assert load_image(data).size == PICTURE.size


@pytest.mark.parametrize("fmt", FORMATS)
def test_other_readers_find_the_text(fmt: Format) -> None:
    record = make(request={"prompt": "リンゴ, flat"})
    image = Image.open(io.BytesIO(encode_image(PICTURE, fmt, record)))
    if fmt == "png":
        assert image.info["parameters"] == parameters_text(record)
    else:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment[:8] == b"UNICODE\0"
        assert comment[8:].decode("utf-16-be") == parameters_text(record)


@pytest.mark.parametrize("fmt", ["jpeg", "webp"])
def test_exif_fields_have_the_type_that_strict_readers_ask_for(fmt: Format) -> None:
    # Read as the specification has it, and not with the library that wrote it.
    for prompt in ("odd", "even"):
        record = make(request={"prompt": prompt})
        exif = Image.open(io.BytesIO(encode_image(PICTURE, fmt, record))).info["exif"]
        tiff = exif.removeprefix(b"Exif\0\0")
        magic, first = struct.unpack(">4sI", tiff[:8])
        count, tag, kind, _, directory, following = struct.unpack_from(">HHHIII", tiff, first)
        assert (magic, count, tag, kind, following) == (b"MM\0*", 1, 0x8769, 4, 0)
        (count,) = struct.unpack_from(">H", tiff, directory)
        found = {}
        for place in range(count):
            tag, kind, size, offset = struct.unpack_from(">HHII", tiff, directory + 2 + 12 * place)
            assert kind == 7
            assert offset % 2 == 0
            found[tag] = tiff[offset : offset + size]
        assert list(found) == [0x927C, 0x9286]
        assert found[0x9286] == b"UNICODE\0" + parameters_text(record).encode("utf-16-be")
        assert found[0x927C].startswith(MAKER_PREFIX)


def test_chunks_of_a_png() -> None:
    data = encode_image(PICTURE, "png", make())
    assert b"tEXtparameters\0a red apple" in data
    assert b"iTXtsdcore\0\0\0\0\0{" in data
    assert data.index(b"iTXtsdcore") < data.index(b"IDAT")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_saved_again_with_its_metadata_keeps_the_record(fmt: Format) -> None:
    record = make()
    image = Image.open(io.BytesIO(encode_image(PICTURE, fmt, record)))
    again = io.BytesIO()
    if fmt == "png":
        chunks = PngImagePlugin.PngInfo()
        for key, value in image.info.items():
            chunks.add_text(key, value)
        image.save(again, "PNG", pnginfo=chunks)
    else:
        image.save(again, fmt, exif=image.getexif())
    assert read_record(again.getvalue()) == record


@pytest.mark.parametrize(("fmt", "options"), [("png", {}), ("webp", {"lossless_webp": True})])
def test_lossless_formats_keep_every_pixel(fmt: Format, options: dict[str, bool]) -> None:
    record = make()
    data = encode_image(PICTURE, fmt, record, **options)
    assert image_sha256(load_image(data)) == record.pixels_sha256
    clear = PICTURE.copy()
    clear.putalpha(0)
    kept = load_image(encode_image(clear, fmt, None, **options), keep_alpha=True)
    assert kept.tobytes() == clear.tobytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_same_bytes_every_time_and_nothing_else_in_them(fmt: Format) -> None:
    image = PICTURE.copy()
    image.info = {"icc_profile": b"secret" * 99, "comment": b"secret", "xmp": b"secret", "exif": b"Exif\0\0secret"}
    data = encode_image(image, fmt, make())
    assert data == encode_image(PICTURE, fmt, make())
    assert b"secret" not in data
    assert image.info["comment"] == b"secret"
    with pytest.raises(RecordError, match="no record"):
        read_record(encode_image(image, fmt, None))


def test_a_record_too_big_for_jpeg_fits_the_others() -> None:
    # Text that does not compress.
    record = make(request={"prompt": os.urandom(50_000).hex()})
    with pytest.raises(OutputError, match=r"bytes and a JPEG holds 65,533: save as PNG"):
        encode_image(PICTURE, "jpeg", record)
    for fmt in ("png", "webp"):
        assert read_record(encode_image(PICTURE, fmt, record)) == record
    with pytest.raises(OutputError, match="at most 4,194,304"):
        encode_image(PICTURE, "png", make(request={"prompt": "x" * MAX_BYTES}))


def test_formats_that_cannot_hold_the_picture() -> None:
    with pytest.raises(OutputError, match="use 'png', 'jpeg' or 'webp'"):
        encode_image(PICTURE, "gif", None)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="jpeg holds no picture of mode 'RGBA'"):
        encode_image(PICTURE.convert("RGBA"), "jpeg", None)
    with pytest.raises(OutputError, match="webp cannot hold this picture of 20000x8"):
        encode_image(Image.new("RGB", (20_000, 8)), "webp", None)


def test_format_of() -> None:
    assert [format_of(f"out/a.{s}") for s in ("png", "JPG", "jpeg", "WebP")] == ["png", "jpeg", "jpeg", "webp"]
    for name in ("a", "a.gif", ".png"):
        with pytest.raises(OutputError, match=r"end it in one of \.png, \.jpg, \.jpeg, \.webp"):
            format_of(name)


# --- reading what is not trusted


def test_pictures_without_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PICTURE.save(path)
    with pytest.raises(RecordError, match=r"a\.png has no record of sdcore.*a site or program"):
        read_record(path)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[MAKER_NOTE] = b"a camera's own"
    PICTURE.save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(RecordError, match="no record"):
        read_record(tmp_path / "a.jpg")


def test_no_picture_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"just some text")
    for source in (tmp_path / "a.png", tmp_path / "b.png", b"GIF89a" + bytes(40)):
        with pytest.raises(RecordError, match="no PNG, JPEG or WebP"):
            read_record(source)
    for missing in (tmp_path / "missing.png", tmp_path, "a\0b", "x" * 5000):
        with pytest.raises(RecordError):
            read_record(missing)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_cut_anywhere_gives_its_record_or_a_record_error(fmt: Format) -> None:
    record = make()
    data = encode_image(PICTURE, fmt, record)
    for end in (*range(0, 2000, 37), len(data) // 2, len(data) - 1):
        with contextlib.suppress(RecordError):
            assert read_record(data[:end]) == record
    with pytest.raises(RecordError):
        read_record(data[:300])


def test_text_behind_the_pixels_is_found() -> None:
    data = encode_image(PICTURE, "png", make())
    start = data.index(b"iTXtsdcore") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert read_record(moved) == make()


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_edited_record_in_a_picture(fmt: Format) -> None:
    text = make().to_json().replace("red apple", "bad apple")
    data = io.BytesIO()
    if fmt == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("sdcore", text)
        PICTURE.save(data, "PNG", pnginfo=chunks)
    else:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[MAKER_NOTE] = MAKER_PREFIX + zlib.compress(text.encode())
        PICTURE.save(data, fmt, exif=exif)
    with pytest.raises(RecordError, match="was changed after it was written"):
        read_record(data.getvalue())


def test_a_small_file_that_would_expand_without_end_is_refused() -> None:
    for payload in (zlib.compress(bytes(60_000_000), 9), b"not zlib"):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[MAKER_NOTE] = MAKER_PREFIX + payload
        data = io.BytesIO()
        PICTURE.save(data, "JPEG" if len(payload) < 65_000 else "WEBP", exif=exif)
        tracemalloc.start()
        try:
            with pytest.raises(RecordError):
                read_record(data.getvalue())
            assert tracemalloc.get_traced_memory()[1] < 30_000_000
        finally:
            tracemalloc.stop()
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("sdcore", "9" * 60_000_000, zip=True)
    data = io.BytesIO()
    PICTURE.save(data, "PNG", pnginfo=chunks)
    with pytest.raises(RecordError):
        read_record(data.getvalue())


def test_reading_opens_no_path_but_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_image(PICTURE, "png", make(request={"image": {"asset": "passwd", "sha256": HASH}}))
    (tmp_path / "passwd").write_text("secret")
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert read_record(data).request["image"]["asset"] == "passwd"


# --- differences


HERE: dict[str, Any] = {
    "software": {"sdcore": "0.1.0", "torch": "2.12.0", "sdcore-lora": "0.1.0", "sdcore-other": "9"},
    "model_components": {"unet": HASH, "vae": HASH[::-1]},
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
}


def test_no_differences() -> None:
    assert differences(make(), **HERE) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"software": {**HERE["software"], "torch": "2.13.0"}}, "torch 2.12.0 made it, 2.13.0 is here"),
        (
            {"software": {"sdcore": "0.1.0", "torch": "2.12.0"}},
            "sdcore-lora 0.1.0 made it, and is not installed here",
        ),
        (
            {"model_components": {"unet": "f" * 64, "vae": HASH[::-1]}},
            "unet 0123456789 of the model made it, another one (ffffffffff) is here",
        ),
        (
            {"model_components": {"unet": HASH}},
            "the model that made it had a component vae that is not in the one here",
        ),
        (
            {"model_components": {**HERE["model_components"], "extra": HASH}},
            "the model here has a component extra that the model that made it had not",
        ),
        ({"device": "cuda"}, "it was made on device cpu, here it is cuda"),
        ({"dtype": "bfloat16"}, "it was made on dtype float32, here it is bfloat16"),
        ({"threads": 8}, "torch had 1 as its number of threads, here it has 8"),
    ],
)
def test_every_difference_is_a_sentence(change: dict[str, Any], sentence: str) -> None:
    assert differences(make(), **(HERE | change)) == [sentence]


def test_sentences_cannot_control_the_terminal() -> None:
    record = make(software={"torch\x1b[2J": "1\n2" + "x" * 500}, device="\x1b]0;title\x07")
    for sentence in differences(record, **HERE):
        assert sentence.isprintable()
        assert len(sentence) < 300


def test_none_of_these_modules_needs_torch() -> None:
    code = (
        "import sys, sdcore.images, sdcore.files, sdcore.record, sdcore.differences, sdcore.picture_files\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
