"""Sizes of buckets, which one a picture goes to, and how it is cut."""

import math

import pytest
from sdcore_train.data.buckets import bucket_sizes, fit, nearest_bucket


@pytest.mark.parametrize(
    ("base", "step", "aspect"),
    [((1024, 1024), 64, 2.0), ((512, 512), 64, 2.0), ((512, 512), 8, 3.0), ((64, 64), 8, 2.0), ((768, 512), 64, 2.0)],
)
def test_sizes_are_of_the_area_of_the_base_and_never_larger(base, step, aspect):
    sizes = bucket_sizes(base, step, aspect)
    area = base[0] * base[1]
    assert base in sizes
    assert len(sizes) == len(set(sizes)) > 3
    for height, width in sizes:
        assert height % step == width % step == 0
        assert height * width <= area
        # One of the sides is as long as it can be.
        assert (height + step) * width > area or height * (width + step) > area
        assert max(height, width) / min(height, width) <= aspect
    assert {(w, h) for h, w in bucket_sizes((base[1], base[0]), step, aspect)} == set(sizes)


def test_the_sizes_that_sdxl_is_used_with_are_among_them():
    sizes = bucket_sizes((1024, 1024), 64, 2.0)
    for high, wide in ((1024, 1024), (896, 1152), (832, 1216), (768, 1344)):  # arXiv 2307.01952, appendix I
        assert {(high, wide), (wide, high)} <= set(sizes)
    assert all(h * w >= 0.86 * (1 << 20) for h, w in sizes)


def test_a_base_that_fits_nothing_is_the_only_size():
    assert bucket_sizes((64, 64), 64, 2.0) == ((64, 64),)
    assert bucket_sizes((40, 40), 64, 2.0) == ((40, 40),)
    assert (512, 1536) in bucket_sizes((512, 1536), 64, 2.0)


def test_a_picture_goes_to_the_nearest_proportions_however_large_it_is():
    sizes = bucket_sizes((512, 512), 64, 2.0)
    assert nearest_bucket((4000, 4000), sizes) == (512, 512)
    assert nearest_bucket((10, 10), sizes) == (512, 512)
    for size in sizes:
        assert nearest_bucket((3 * size[0], 3 * size[1]), sizes) == size
    # Proportions are compared by their quotient: 1.45 is nearer to 2 than to 1.
    assert nearest_bucket((100, 145), [(64, 64), (64, 128)]) == (64, 128)
    assert nearest_bucket((145, 100), [(64, 64), (128, 64)]) == (128, 64)
    wide, tall = nearest_bucket((300, 400), sizes), nearest_bucket((400, 300), sizes)
    assert wide == tall[::-1]
    assert wide[1] > wide[0]
    # Far beyond the widest: the widest.
    assert nearest_bucket((100, 1000), sizes) == max(sizes, key=lambda s: s[1] / s[0])


@pytest.mark.parametrize(
    "size", [(100, 200), (200, 100), (64, 64), (1000, 999), (33, 71), (7, 5000), (999, 600), (600, 999)]
)
@pytest.mark.parametrize("bucket", [(64, 64), (48, 80), (128, 32)])
def test_a_picture_covers_its_bucket_and_no_more_than_needed(size, bucket):
    place = fit(size, bucket)
    assert place.resized[0] == bucket[0] or place.resized[1] == bucket[1]
    for axis, offset in ((0, place.top), (1, place.left)):
        assert place.resized[axis] >= bucket[axis]
        room = place.resized[axis] - bucket[axis]
        assert 0 <= offset <= room
        assert abs(2 * offset - room) <= 1  # in the middle
        assert abs(place.resized[axis] - size[axis] * place.scale) <= 0.5 + 1e-6
    first, last = fit(size, bucket, 0.0, 0.0), fit(size, bucket, math.nextafter(1, 0), math.nextafter(1, 0))
    assert (first.top, first.left) == (0, 0)
    assert (last.top, last.left) == (last.resized[0] - bucket[0], last.resized[1] - bucket[1])


def test_every_place_of_a_random_cut_is_as_likely():
    places = [fit((8, 12), (8, 8), across=i / 1000, down=0.5).left for i in range(1000)]
    assert [places.count(left) for left in range(5)] == [200] * 5
