"""The scheme ``spread``: marks that are not seen, and are found."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from sdcore_watermark import Detection, Key, detect, embed, mark
from sdcore_watermark.spread.correlate import tail
from sdcore_watermark.spread.perception import luma, psnr, ssim

from sdcore import RequestError

Photo = Callable[..., Image.Image]
PAYLOAD = 0xC0FFEE42


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def middle(image: Image.Image, area: float) -> Image.Image:
    edge = round(image.width * (1 - area**0.5) / 2)
    return image.crop((edge, edge + 3, image.width - edge, image.height - edge))


@pytest.fixture(scope="session")
def marked(photo: Photo, key: Key) -> Image.Image:
    return embed(photo(512), key, PAYLOAD)


def check(found: Detection, payload: int | None = PAYLOAD) -> None:
    assert found.p_value < 1e-6
    assert found.payload == payload


@pytest.mark.parametrize("target", [38.0, 40.0, 44.0])
def test_the_error_is_what_was_asked_for(photo: Photo, key: Key, target: float) -> None:
    before = photo(512)
    made = mark(before, key, PAYLOAD, psnr=target)
    assert made.psnr == pytest.approx(psnr(np.asarray(before), np.asarray(made.image)))
    assert made.psnr == pytest.approx(target, abs=0.05) or (made.psnr > target and made.ssim < 0.977)
    check(detect(made.image, key, search="fast"))


def test_similarity_has_a_floor(photo: Photo, key: Key) -> None:
    """A flat picture with little structure gets a weaker mark."""
    flat = photo(256).filter(ImageFilter.GaussianBlur(6))
    made = mark(flat, key, PAYLOAD)
    assert made.psnr > 41
    assert made.ssim >= 0.97
    assert ssim(luma(np.asarray(flat)), luma(np.asarray(made.image))) == pytest.approx(made.ssim)
    check(detect(made.image, key, search="fast"))


def test_the_same_arguments_give_the_same_picture(photo: Photo, key: Key) -> None:
    first, second = embed(photo(256), key, 5), embed(photo(256), key, 5)
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert not np.array_equal(np.asarray(first), np.asarray(embed(photo(256), key, 6)))


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda im: jpeg(im, 50), id="jpeg50"),
        pytest.param(lambda im: jpeg(im, 25), id="jpeg25"),
        pytest.param(lambda im: middle(im, 0.5), id="crop50"),
        pytest.param(lambda im: middle(im, 0.25), id="crop25"),
        pytest.param(ImageOps.mirror, id="mirror"),
        pytest.param(ImageOps.grayscale, id="grey"),
        pytest.param(lambda im: im.filter(ImageFilter.GaussianBlur(1)), id="blur"),
        pytest.param(lambda im: im.point(lambda v: min(v * 1.2, 255)), id="brighter"),
    ],
)
def test_found_at_once(marked: Image.Image, key: Key, attack: Callable[[Image.Image], Image.Image]) -> None:
    check(detect(attack(marked), key, search="fast"))


@pytest.mark.parametrize(
    ("attack", "scale", "angle", "mirror"),
    [
        (lambda im: im.resize((256, 256), Image.Resampling.BILINEAR), 0.5, 0, False),
        (lambda im: middle(im, 0.5).resize((512, 512), Image.Resampling.BICUBIC), 2**0.5, 0, False),
        (lambda im: im.rotate(5, Image.Resampling.BICUBIC), 1, 5, False),
        (lambda im: im.rotate(-12, Image.Resampling.BICUBIC), 1, -12, False),
        (lambda im: ImageOps.mirror(im).rotate(3, Image.Resampling.BICUBIC), 1, 3, True),
    ],
)
def test_found_by_search(
    marked: Image.Image,
    key: Key,
    attack: Callable[[Image.Image], Image.Image],
    scale: float,
    angle: float,
    mirror: bool,
) -> None:
    attacked = attack(marked)
    assert detect(attacked, key, search="fast").p_value > 1e-6
    found = detect(attacked, key)
    check(found)
    assert found.geometry["scale"] == pytest.approx(scale, rel=0.01)
    assert found.geometry["angle"] == pytest.approx(angle, abs=0.5)
    assert found.geometry["mirror"] is mirror


@pytest.mark.parametrize(("side", "payload"), [(64, None), (100, None), (112, PAYLOAD), (192, PAYLOAD)])
def test_small_pictures(photo: Photo, key: Key, other: Key, side: int, payload: int | None) -> None:
    made = mark(photo(side), key, PAYLOAD)
    assert made.payload == payload
    check(detect(jpeg(made.image, 85), key, search="fast"), payload)
    assert detect(made.image, other, search="fast").p_value > 1e-4
    larger = made.image.resize((side * 4, side * 4), Image.Resampling.NEAREST)
    if side <= 64:
        check(detect(larger, key, search="fast"), payload)


@pytest.mark.parametrize(("turn", "angle"), [("ROTATE_90", 90), ("ROTATE_180", -180), ("ROTATE_270", -90)])
def test_quarter_turns(marked: Image.Image, key: Key, turn: str, angle: float) -> None:
    found = detect(marked.transpose(Image.Transpose[turn]), key, search="fast")
    check(found)
    assert found.geometry["angle"] == angle
    mirrored = detect(ImageOps.mirror(marked).transpose(Image.Transpose[turn]), key, search="fast")
    check(mirrored)
    assert (mirrored.geometry["mirror"], mirrored.geometry["angle"]) == (True, angle)


def test_a_large_picture_bears_a_larger_pattern(photo: Photo, key: Key) -> None:
    large = photo(512).resize((1600, 1536), Image.Resampling.BICUBIC)
    made = embed(large, key, PAYLOAD)
    found = detect(made, key, search="fast")
    check(found)
    assert found.geometry["scale"] == 2


@pytest.mark.parametrize("search", ["fast", pytest.param("auto", marks=pytest.mark.slow)])
def test_another_key_finds_nothing(photo: Photo, key: Key, other: Key, search: str) -> None:
    for image, wrong in ((embed(photo(96), key), other), (photo(96), key)):
        found = detect(image, wrong, search=search)
        assert found.p_value > 1e-4
        assert found.payload is None


def test_all_generations_are_found(photo: Photo, key: Key) -> None:
    old = embed(photo(256), key, 7)
    rotated = key.rotated()
    found = detect(old, rotated, search="fast")
    check(found, 7)
    assert found.key_id == key.key_id
    assert detect(embed(photo(256), rotated, 7), rotated, search="fast").key_id == rotated.key_id
    assert detect(embed(photo(256), rotated, 7), key, search="fast").p_value > 1e-4


def test_the_tail_is_a_bound_where_the_normal_one_is_none() -> None:
    nine_heads = 2.0**-9  # nine fair coins alike: three standard deviations
    assert nine_heads > 0.5 * math.erfc(3 / math.sqrt(2))
    assert tail(3.0) >= nine_heads
    random = np.random.default_rng(0)
    for weights in ([1.0], [1.0, 1.0], [3.0, 1.0, 1.0, 1.0], 0.7 ** np.arange(20)):
        weights = np.asarray(weights)
        sums = np.cos(random.uniform(0, 2 * np.pi, (200_000, weights.size))) @ weights
        z = sums / np.sqrt((weights**2).sum() / 2)
        for level in (0.5, 1.0, 1.4, 2.0, 3.0):
            assert (z >= level).mean() <= tail(level)
    assert tail(-1.0) == 1.0
    assert 0 < tail(7.0) < 1e-11


def test_false_alarms_are_as_rare_as_the_p_value_says(photo: Photo) -> None:
    random = np.random.default_rng(0)
    values = []
    for number in range(80):
        left, top = (int(v) for v in random.integers(0, 512 - 96, 2))
        crop = photo(512).crop((left, top, left + 96, top + 96))
        values.append(detect(crop, Key((number.to_bytes(32, "little"),)), search="fast").p_value)
    assert np.mean(np.array(values) <= 0.1) <= 0.1
    assert min(values) > 1e-5


def test_marks_of_many_pictures_do_not_add_up(photo: Photo, key: Key) -> None:
    """The shift of the pattern follows the picture, so an average has no pattern in it."""
    differences, shifts = [], set()
    for number in range(24):
        corner = (number % 6) * 60, (number // 6) * 60
        crop = photo(512).crop((*corner, corner[0] + 192, corner[1] + 192))
        made = embed(crop, key, PAYLOAD)
        differences.append(np.asarray(made, np.float32) - np.asarray(crop, np.float32))
        shifts.add(tuple(detect(made, key, search="fast").geometry["shift"]))
    alone = np.mean([difference.std() for difference in differences])
    assert np.mean(differences, axis=0).std() < 2 * alone / len(differences) ** 0.5
    assert len(shifts) > 18


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_pictures_of_one_colour(key: Key, colour: int) -> None:
    """They can be marked (there is nothing that hides it), or are refused, but never pass for marked."""
    flat = Image.new("RGB", (128, 128), (colour,) * 3)
    assert detect(flat, key).p_value > 0.5
    check(detect(embed(flat, key, PAYLOAD), key, search="fast"))


def test_too_small(key: Key) -> None:
    with pytest.raises(RequestError, match="63x80"):
        embed(Image.new("RGB", (63, 80)), key)
    assert detect(Image.new("RGB", (8, 8)), key).p_value == 1.0


def test_a_detection_is_no_boolean(marked: Image.Image, key: Key) -> None:
    found = detect(marked, key, search="fast")
    with pytest.raises(TypeError, match="p_value"):
        bool(found)
    assert found.found()
    assert found.found(1e-9)
    assert found.to_dict()["payload"] == "c0ffee42"
    assert len(found.bit_confidence) == 32


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"payload": 2**32}, "4294967295"),
        ({"payload": -1}, "payload is -1"),
        ({"payload": True}, "payload is True"),
        ({"psnr": 5.0}, "decibels"),
        ({"scheme": "spred"}, "Did you mean 'spread'"),
        ({"key": "key.json"}, "Key.load"),
    ],
)
def test_wrong_arguments(photo: Photo, key: Key, change: dict[str, object], match: str) -> None:
    arguments: dict[str, object] = {"key": key, "payload": 1, **change}
    with pytest.raises(RequestError, match=match):
        embed(photo(64), **arguments)  # type: ignore[arg-type]
