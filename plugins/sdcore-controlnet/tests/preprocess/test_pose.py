from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sdcore_controlnet.preprocess import preprocess_image
from sdcore_controlnet.preprocess.options import Pose
from sdcore_controlnet.preprocess.pose import body, find_persons
from sdcore_controlnet.preprocess.pose.body import Body
from sdcore_controlnet.preprocess.pose.detection import FACES, PEOPLE, Detection, anchors, decoded, overlap, suppressed
from sdcore_controlnet.preprocess.pose.geometry import Region, aligned, letterbox
from sdcore_controlnet.preprocess.pose.skeleton import COLOURS, LIMBS, NAMES, Person, draw_people, openpose_points

from sdcore import ModelError

needs_litert = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs the extra `pose` (ai-edge-litert)")
EYE = {"right": (152, 76), "left": (185, 77)}  # in the photo of 384 pixels, by eye


def test_a_skeleton_has_the_right_colours_at_the_right_places() -> None:
    points = np.stack([np.arange(18) % 6 * 80 + 50.0, np.arange(18) // 6 * 150 + 80.0], axis=1)
    drawn = draw_people([Person(points, np.ones(18, bool))], 512, 512)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        assert tuple(drawn[int(y), int(x)]) == colour
    alone = np.zeros(18, bool)
    start, end = LIMBS[2]
    alone[[start, end]] = True
    drawn = draw_people([Person(points, alone)], 512, 512)
    x, y = (points[start] + points[end]) / 2
    assert tuple(drawn[int(y), int(x)]) == tuple(int(0.6 * part) for part in COLOURS[2])
    assert {tuple(colour) for colour in drawn.reshape(-1, 3)} == {
        (0, 0, 0), COLOURS[start], COLOURS[end], tuple(int(0.6 * part) for part in COLOURS[2])
    }  # fmt: skip
    assert not draw_people([], 64, 64).any()


def test_the_points_are_openposes() -> None:
    places = np.arange(66, dtype=float).reshape(33, 2)
    sure = np.ones(33)
    sure[16] = 0.2
    points, seen = openpose_points(Body(1.0, places, sure), visibility=0.5)
    theirs = {
        "nose": 0, "left eye": 2, "right eye": 5, "left ear": 7, "right ear": 8, "left shoulder": 11,
        "right shoulder": 12, "left elbow": 13,
        "right elbow": 14, "left wrist": 15, "right wrist": 16, "left hip": 23, "right hip": 24,
        "left knee": 25, "right knee": 26, "left ankle": 27, "right ankle": 28,
    }  # fmt: skip
    for name, index in theirs.items():
        assert (points[NAMES.index(name)] == places[index]).all(), name
    assert (points[NAMES.index("neck")] == (places[11] + places[12]) / 2).all()
    assert seen.sum() == 17
    assert not seen[NAMES.index("right wrist")]


def test_regions_cut_and_project_back() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[120:124, 250:254] = 255  # its centre is (252, 122)
    for region in (Region(240, 130, 80, 0.0), Region(240, 130, 120, 0.7), Region(230, 140, 200, -2.5)):
        cut = region.cut(pixels, 128)[..., 0]
        y, x = np.mgrid[:128, :128] + 0.5
        centre = np.array([[(x * cut).sum(), (y * cut).sum()]]) / cut.sum() / 128
        assert np.abs(region.project(centre) - (252, 122)).max() < 0.3
    whole = letterbox(300, 400)
    assert whole.project(np.array([[0.0, 0.0], [1.0, 1.0]])).tolist() == [[0, -50], [400, 350]]


def test_a_region_is_turned_with_the_person() -> None:
    upright = aligned(np.array([100.0, 100.0]), np.array([100.0, 40.0]), 90)
    assert upright == Region(100, 100, 120, 0)
    lying = aligned(np.array([100.0, 100.0]), np.array([160.0, 100.0]), 90)  # the head is on the right
    assert np.isclose(lying.angle, np.pi / 2)
    assert np.allclose(lying.project(np.array([[0.5, 0.0]])), [[160, 100]])


def test_anchors_decoding_and_suppression() -> None:
    assert anchors(PEOPLE).shape == (2254, 2)
    assert anchors(FACES).shape == (896, 2)
    assert anchors(FACES)[:3].tolist() == [[0.03125, 0.03125]] * 2 + [[0.09375, 0.03125]]
    raw, logits = np.zeros((896, 16)), np.full(896, -9.0)
    raw[100] = [1.28, 0, 12.8, 25.6, *([2.56, -2.56] * 6)]
    logits[100] = 3
    (one,) = decoded(raw, logits, FACES, 0.5)
    x, y = anchors(FACES)[100]
    assert np.allclose(one.box, [x + 0.01 - 0.05, y - 0.1, x + 0.01 + 0.05, y + 0.1])
    assert np.allclose(one.points, [[x + 0.02, y - 0.02]] * 6)
    assert np.isclose(one.score, 1 / (1 + np.exp(-3)))
    assert overlap(np.array([0, 0, 2, 2.0]), np.array([1, 0, 3, 2.0])) == pytest.approx(1 / 3)
    boxes = [
        Detection(0.75, np.array([0, 0, 2.0, 2]), np.array([[1.0, 1]])),
        Detection(0.25, np.array([0, 0, 2.0, 2.4]), np.array([[1.4, 1]])),
        Detection(0.5, np.array([5.0, 5, 6, 6]), np.array([[5.0, 5]])),
    ]
    kept = suppressed(boxes)
    assert [round(one.score, 2) for one in kept] == [0.75, 0.5]
    assert np.allclose(kept[0].box, [0, 0, 2, 2.1])
    assert np.allclose(kept[0].points, [[1.1, 1]])


@needs_litert
def test_a_person_is_found_on_a_photo(photo: Image.Image) -> None:
    (person,) = find_persons(np.asarray(photo), Pose(face=True))
    at = dict(zip(NAMES, person.points, strict=True))
    for side, place in EYE.items():
        assert np.hypot(*(at[f"{side} eye"] - place)) < 15
    assert at["right shoulder"][0] < at["neck"][0] < at["left shoulder"][0]
    assert 160 < at["neck"][1] < 200
    assert 110 < at["left shoulder"][0] - at["right shoulder"][0] < 190
    assert person.seen[:3].all()
    assert not person.seen[[9, 10, 12, 13]].any()  # legs are not in the picture
    assert person.face is not None
    assert person.face.shape == (70, 2)
    for side, index in (("right", 68), ("left", 69)):
        assert np.hypot(*(person.face[index] - EYE[side])) < 8


@needs_litert
def test_the_person_is_followed_when_the_picture_is_moved_and_padded(photo: Image.Image) -> None:
    (here,) = find_persons(np.asarray(photo), Pose())
    wide = Image.new("RGB", (700, 384), (120, 120, 120))
    wide.paste(photo, (300, 0))
    (there,) = find_persons(np.asarray(wide), Pose())
    moved = np.hypot(*(there.points - here.points - (300, 0)).T)
    assert moved[[0, 14, 15]].max() < 12
    assert moved[[1, 2, 5]].max() < 40  # the lite network sees the whole of a body at 256 pixels
    two = Image.new("RGB", (768, 384))
    two.paste(photo, (0, 0))
    two.paste(photo, (384, 0))
    assert len(find_persons(np.asarray(two), Pose())) == 2
    assert len(find_persons(np.asarray(two), Pose(people=1))) == 1


@needs_litert
def test_nobody_is_found_where_nobody_is(photo: Image.Image) -> None:
    assert not np.asarray(preprocess_image("pose", Image.new("RGB", (200, 100), "teal"))).any()
    drawn = preprocess_image("pose", photo)
    assert {(255, 0, 0), (255, 85, 0), (85, 255, 0)} <= {tuple(colour) for colour in np.asarray(drawn).reshape(-1, 3)}
    assert not np.asarray(preprocess_image("pose", photo, body=False)).any()


@needs_litert
def test_another_network(photo: Image.Image, tmp_path: Path) -> None:
    from sdcore_controlnet.preprocess.pose.network import FOLDER

    (tmp_path / "copy.tflite").write_bytes((FOLDER / "pose_landmark_lite.tflite").read_bytes())
    same = preprocess_image("pose", photo, model=tmp_path / "copy.tflite")
    assert same.tobytes() == preprocess_image("pose", photo).tobytes()
    with pytest.raises(ModelError, match="check the path"):
        preprocess_image("pose", photo, model=tmp_path / "none.tflite")
    (tmp_path / "broken.tflite").write_bytes(b"broken")
    with pytest.raises(ModelError, match="damaged"):
        preprocess_image("pose", photo, model=tmp_path / "broken.tflite")
    with pytest.raises(ModelError, match="none of MediaPipe's"):
        preprocess_image("pose", photo, model=FOLDER / "hand_recrop.tflite")


def test_the_bundled_networks_are_small_and_have_their_notice() -> None:
    from sdcore_controlnet.preprocess.pose.network import FOLDER

    assert sum(file.stat().st_size for file in FOLDER.glob("*.tflite")) < 10_000_000
    assert "Apache License, Version 2.0" in (FOLDER / "NOTICE").read_text()


@needs_litert
def test_somebody_who_is_detected_twice_is_drawn_once(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    found = body.find_people(np.asarray(photo), 0.5)
    monkeypatch.setattr(body, "find_people", lambda pixels, confidence: found * 2)
    assert len(body.find_bodies(np.asarray(photo))) == 1
