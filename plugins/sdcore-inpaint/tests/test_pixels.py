"""Filling, covering, colour matching, cutting: the plain functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_inpaint.composite import cover, lay_over, match_colours
from sdcore_inpaint.crop import crop_region, cut_middle, fit_inside
from sdcore_inpaint.fill import fill_picture, pull_push
from sdcore_inpaint.placement import like
from sdcore_inpaint.rounds import windows, working_size


def hole(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    return mask


def test_pull_push_goes_on_with_a_gradient() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64)[None, :, None], 48, axis=0).repeat(3, axis=2)
    inside = np.zeros((48, 64), dtype=bool)
    inside[12:36, 20:44] = True
    filled = pull_push(np.where(inside[..., None], 99.0, ramp), inside)
    assert np.array_equal(filled[~inside], ramp[~inside])
    assert np.abs(filled - ramp)[inside].mean() < 20
    assert np.abs(np.full_like(ramp, ramp[~inside].mean()) - ramp)[inside].mean() > 20
    assert filled[24, 22, 0] < filled[24, 32, 0] < filled[24, 41, 0]


@pytest.mark.parametrize("how", ["edge", "mean"])
@pytest.mark.parametrize("box", [(0, 0, 30, 21), (0, 0, 1, 1), (10, 0, 31, 21), (5, 5, 6, 20)])
def test_filling_changes_the_hole_alone_and_makes_up_no_colour(how: str, box: Any) -> None:
    picture = Image.new("RGB", (31, 21), (200, 40, 90))
    picture.paste((0, 255, 0), box)
    filled = fill_picture(picture, hole(31, 21, box), how)
    assert np.abs(np.asarray(filled).astype(int) - (200, 40, 90)).max() <= 1


def test_edge_follows_the_surroundings_and_mean_does_not() -> None:
    picture = Image.new("RGB", (64, 32), (255, 0, 0))
    picture.paste((0, 0, 255), (32, 0, 64, 32))
    mask = hole(64, 32, (16, 8, 48, 24))
    edge, mean = (np.asarray(fill_picture(picture, mask, how)).astype(int) for how in ("edge", "mean"))
    assert edge[16, 18, 0] > edge[16, 18, 2] and edge[16, 45, 2] > edge[16, 45, 0]  # noqa: PT018
    assert (mean[16, 18] == mean[16, 45]).all()


def test_cover_is_exact_where_it_is_black_and_white() -> None:
    mask = hole(40, 30, (10, 10, 20, 20))
    assert cover(mask, True, 0).tobytes() == mask.tobytes()
    seen = np.asarray(cover(mask, True, 4))
    assert (seen[10:20, 10:20] == 255).all()
    assert list(seen[15, 20:26]) == [204, 153, 102, 51, 0, 0]
    assert list(np.asarray(cover(Image.new("L", (8, 8), 100), True, 0))[0, :1]) == [0]
    assert list(np.asarray(cover(Image.new("L", (8, 8), 32), False, 0))[0, :1]) == [128]
    old, new = Image.new("RGB", (40, 30), (3, 7, 251)), Image.new("RGB", (40, 30), (255, 254, 1))
    laid = np.asarray(lay_over(old, new, cover(mask, True, 4)))
    assert (laid[seen == 0] == (3, 7, 251)).all()
    assert (laid[seen == 255] == (255, 254, 1)).all()


def test_colours_that_drifted_are_matched_and_content_is_kept() -> None:
    generator = np.random.default_rng(0)
    old = Image.fromarray(generator.integers(60, 190, (48, 48, 3)).astype(np.uint8))
    mask = hole(48, 48, (16, 16, 32, 32))
    drawn = np.asarray(old).astype(float)
    drawn[16:32, 16:32] = (20, 200, 20)
    drifted = Image.fromarray((drawn * 0.9 + (15, -5, 20)).round().clip(0, 255).astype(np.uint8))
    matched = np.asarray(match_colours(drifted, old, mask)).astype(float)
    outside = np.asarray(mask) == 0
    assert np.abs(matched - np.asarray(old))[outside].mean() < 3
    assert np.abs(np.asarray(drifted).astype(float) - np.asarray(old))[outside].mean() > 8
    assert np.abs(matched[20, 20] - (20, 200, 20)).max() < 20  # still what was drawn
    everything = Image.new("L", (48, 48), 255)
    assert match_colours(drifted, old, everything).tobytes() == drifted.tobytes()


@pytest.mark.parametrize("size", [(40, 30), (33, 80), (7, 7), (64, 20)])
@pytest.mark.parametrize("working", [(32, 32), (48, 24), (24, 56)])
def test_cutting_out_and_back(size: Any, working: Any) -> None:
    picture = Image.new("RGB", size, (10, 20, 30))
    inside = fit_inside(picture, *working)
    assert inside.size == working
    assert np.asarray(inside).reshape(-1, 3).tolist() == [[10, 20, 30]] * (working[0] * working[1])
    assert cut_middle(inside, *size).size == size


def test_the_part_lies_in_the_picture_and_holds_what_is_marked() -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        size = tuple(generator.integers(9, 200, 2).tolist())
        left, top = (int(generator.integers(0, side)) for side in size)
        right, bottom = int(generator.integers(left, size[0])) + 1, int(generator.integers(top, size[1])) + 1
        box = crop_region((left, top, right, bottom), size, (64, 48), int(generator.integers(0, 40)))
        assert 0 <= box[0] <= left < right <= box[2] <= size[0]
        assert 0 <= box[1] <= top < bottom <= box[3] <= size[1]


def test_sizes_are_what_a_model_likes() -> None:
    assert like((512, 512), (100, 101), 8) == (512, 512)
    assert like((512, 512), (200, 100), 8) == (728, 360)
    assert working_size((512, 512), (512, 512), 8) == (512, 512)
    assert working_size((768, 512), (512, 512), 8) == (768, 512)
    assert working_size((256, 128), (512, 512), 8) == (728, 360)
    width, height = working_size((2000, 1500), (512, 512), 8)
    assert width * height <= 1.6 * 512 * 512


@pytest.mark.parametrize("limit", [None, 8, 24, 300])
def test_windows_leave_nothing_to_draw_and_always_see_enough(limit: int | None) -> None:
    generator = np.random.default_rng(2)
    for _ in range(60):
        wide, high = (int(side) for side in generator.integers(8, 200, 2))
        left, top, right, bottom = (int(side) for side in generator.integers(0, 90, 4))
        canvas = wide + left + right, high + top + bottom
        inside = (left, top, left + wide, top + high)
        if canvas == (wide, high):
            continue
        known = np.zeros(canvas[::-1], dtype=bool)
        known[top : top + high, left : left + wide] = True
        for box in windows(inside, canvas, (64, 64), limit):
            assert 0 <= box[0] < box[2] <= canvas[0]
            assert 0 <= box[1] < box[3] <= canvas[1]
            part = known[box[1] : box[3], box[0] : box[2]]
            assert part.mean() > 0.02
            part[:] = True
        assert known.all()
