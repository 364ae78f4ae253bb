import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from sdcore_controlnet.preprocess import preprocess_image
from sdcore_controlnet.preprocess.lines import find_segments, lengths, merged, straight_lines
from sdcore_controlnet.preprocess.options import Lines


def grey(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def square(size: int = 200, low: int = 50, high: int = 149, width: int = 3, paper: str = "white") -> Image.Image:
    image = Image.new("RGB", (size, size), paper)
    ink = "black" if paper == "white" else "white"
    ImageDraw.Draw(image).rectangle((low, low, high, high), outline=ink, width=width)
    return image


@pytest.mark.parametrize("thresholds", [(100, 200), (30, 60), (200, 200)])
def test_canny_is_opencvs(photo: Image.Image, thresholds: tuple[int, int]) -> None:
    low, high = thresholds
    ours = grey(preprocess_image("canny", photo, low=low, high=high))
    assert (ours == cv2.Canny(np.asarray(photo), low, high)).all()
    assert 0.01 < (ours == 255).mean() < 0.3


def test_canny_at_a_resolution_stays_black_and_white(photo: Image.Image) -> None:
    made = preprocess_image("canny", photo, resolution=128)
    assert made.size == photo.size
    assert set(np.unique(np.asarray(made))) == {0, 255}


def test_a_drawing_becomes_white_strokes_on_black() -> None:
    for paper in ("white", "black"):  # a blackboard too
        drawn = grey(preprocess_image("scribble", square(paper=paper), source="drawing"))
        expected = np.zeros((200, 200), bool)
        expected[50:150, 50:150] = True
        expected[53:147, 53:147] = False
        assert ((drawn == 255) == expected).all()
    assert (grey(preprocess_image("scribble", square())) == drawn).all()  # found by itself


def test_an_empty_sheet_has_no_strokes() -> None:
    assert not np.asarray(preprocess_image("scribble", Image.new("RGB", (90, 70), (250, 251, 249)))).any()


def test_scribble_of_a_photo_is_sparse_and_follows_contours() -> None:
    image = Image.new("RGB", (300, 300), (90, 120, 90))
    ImageDraw.Draw(image).ellipse((75, 75, 225, 225), fill=(220, 60, 40))
    drawn = grey(preprocess_image("scribble", image, source="photo")) == 255
    y, x = np.nonzero(drawn)
    radius = np.hypot(x - 150, y - 150)
    assert np.abs(radius - 75).max() < 6
    angles = np.histogram(np.arctan2(y - 150, x - 150), bins=36)[0]
    assert (angles > 0).all()  # all around


def test_soft_edges_are_strong_at_contours_weak_in_texture_and_absent_in_grain() -> None:
    generator = np.random.default_rng(0)
    pixels = np.full((256, 256, 3), 100, np.uint8)
    pixels[:, 128:] = 200
    texture = generator.integers(0, 2, (128, 128)).repeat(2, 0).repeat(2, 1) * 60
    textured = np.clip(pixels + texture[..., None], 0, 255).astype(np.uint8)
    edges = grey(preprocess_image("soft-edge", Image.fromarray(pixels)))
    assert edges[:, 126:130].min() > 200
    assert edges[:, :100].max() == 0
    held = grey(preprocess_image("soft-edge", Image.fromarray(textured))).astype(float)
    free = grey(preprocess_image("soft-edge", Image.fromarray(textured), suppression=0)).astype(float)
    assert held[:, 20:100].mean() < 0.6 * free[:, 20:100].mean()
    grain = np.clip(128 + generator.normal(0, 2, (256, 256, 1)), 0, 255).astype(np.uint8).repeat(3, 2)
    assert grey(preprocess_image("soft-edge", Image.fromarray(grain))).mean() < 40


def test_safe_edges_have_three_levels(photo: Image.Image) -> None:
    made = preprocess_image("soft-edge", photo, safe=True, resolution=None)
    assert set(np.unique(np.asarray(made))) == {0, 128, 255}


def test_line_art_is_white_where_the_drawing_is_black() -> None:
    for name in ("line-art", "line-art-anime"):
        made = grey(preprocess_image(name, square()))
        assert made[51, 60:140].min() > 120, name
        assert made[:40].max() < 20, name
        assert made[80:120, 80:120].max() < 20, name


def test_the_four_sides_of_a_square_are_found() -> None:
    pixels = np.asarray(square(), np.uint8)
    found = straight_lines(pixels, Lines())
    assert len(found) == 4
    assert np.abs(lengths(found) - 99).max() < 4
    angles = np.degrees(np.arctan2(found[:, 3] - found[:, 1], found[:, 2] - found[:, 0])) % 180
    flat = np.minimum(angles, 180 - angles) < 1
    upright = np.abs(angles - 90) < 1
    assert flat.sum() == 2
    assert upright.sum() == 2
    middles = (found[:, :2] + found[:, 2:]) / 2
    wanted = [(99.5, 51), (99.5, 148), (51, 99.5), (148, 99.5)]
    assert all(np.hypot(*(middles - place).T).min() < 2 for place in wanted)
    drawn = grey(preprocess_image("lines", square())) == 255
    assert 350 < drawn.sum() < 600


def test_lines_turn_with_the_drawing_and_keep_their_place_at_a_resolution() -> None:
    image = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(image).line((100, 100, 500, 300), fill="black", width=4)
    for resolution in (None, 200):
        found = straight_lines(np.asarray(image), Lines(resolution=resolution))
        assert len(found) == 1
        x0, y0, x1, y1 = found[0]
        assert abs(np.degrees(np.arctan2(y1 - y0, x1 - x0)) % 180 - np.degrees(np.arctan2(1, 2))) < 1
        assert min(np.hypot(x0 - 100, y0 - 100), np.hypot(x1 - 100, y1 - 100)) < 8


def test_pieces_of_a_line_are_merged_and_others_are_not() -> None:
    pieces = np.array([[0, 0, 10, 0], [15, 0.5, 30, 0.5], [12, 8, 40, 8], [20, 0, 20, 40.0], [80, 0, 95, 0]])
    found = merged(pieces, angle=5, distance=2, gap=10)
    assert len(found) == 4
    assert np.isclose(lengths(found), 30, atol=0.2).any()
    assert len(merged(pieces, angle=5, distance=2, gap=60)) == 3
    assert len(merged(np.zeros((0, 4)), 5, 2, 10)) == 0


def test_short_lines_are_dropped(photo: Image.Image) -> None:
    some, few = (straight_lines(np.asarray(photo), Lines(min_length=part)) for part in (0.05, 0.3))
    assert len(few) < len(some)
    assert lengths(few).min() >= 0.3 * 384 - 1e-6
    assert len(find_segments(np.zeros((50, 50), np.uint8))) == 0
