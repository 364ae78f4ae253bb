"""Skeletons as OpenPose draws them and as ControlNets were trained on: 18 points, 17 limbs, fixed colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from sdcore_controlnet.preprocess.arrays import Pixels

from .body import Body
from .geometry import Points

NAMES = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip

COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""RGB of each point. The first 17 are those of the limbs too."""

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip

FINGERS = tuple(
    (0 if joint == first else joint - 1, joint) for first in (1, 5, 9, 13, 17) for joint in range(first, first + 4)
)

_BLAZEPOSE = (0, None, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)


@dataclass(frozen=True)
class Person:
    """What is drawn of somebody, in pixels of the picture.

    Attributes:
        points: (18, 2) in the order of :data:`NAMES`.
        seen: (18,) which of them are drawn.
        hands: of each hand 21 points (21, 2).
        face: (70, 2), or None.
    """

    points: Points
    seen: NDArray[np.bool_]
    hands: tuple[Points, ...] = ()
    face: Points | None = field(default=None)


def openpose_points(body: Body, visibility: float) -> tuple[Points, NDArray[np.bool_]]:
    """OpenPose's points (18, 2) of BlazePose's 33, and which are in view (18,). The neck is between the shoulders."""
    points, seen = np.zeros((18, 2)), np.zeros(18, np.bool_)
    for index, source in enumerate(_BLAZEPOSE):
        if source is not None:
            points[index], seen[index] = body.points[source], body.visibility[source] >= visibility
    points[1] = (points[2] + points[5]) / 2
    seen[1] = seen[2] and seen[5]
    return points, seen


def draw_people(people: Sequence[Person], height: int, width: int, thickness: float = 1.0) -> Pixels:
    """Skeletons on black, (height, width, 3).

    Args:
        people: who is drawn.
        height: of the picture.
        width: of the picture.
        thickness: 1 is four pixels to each side of a limb where the short side is 512.
    """
    unit = thickness * min(height, width) / 512
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in people:
        for colour, (start, end) in zip(COLOURS, LIMBS, strict=False):
            if person.seen[start] and person.seen[end]:
                _limb(canvas, person.points[start], person.points[end], max(1, round(4 * unit)), colour)
    canvas = (canvas * 0.6).astype(np.uint8)  # joints stand out against limbs
    for person in people:
        for colour, point, seen in zip(COLOURS, person.points, person.seen, strict=True):
            if seen:
                _dot(canvas, point, max(1, round(4 * unit)), colour)
    for person in people:
        for hand in person.hands:
            _hand(canvas, hand, unit)
        for point in () if person.face is None else person.face:
            _dot(canvas, point, max(1, round(3 * unit)), (255, 255, 255))
    return canvas


def _limb(canvas: Pixels, start: Points, end: Points, half: int, colour: tuple[int, int, int]) -> None:
    middle, along = (start + end) / 2, end - start
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    axes = (int(np.hypot(*along) / 2), half)
    outline = cv2.ellipse2Poly((int(middle[0]), int(middle[1])), axes, int(angle), 0, 360, 1)
    cv2.fillConvexPoly(canvas, np.array(outline, np.int32), colour)


def _dot(canvas: Pixels, point: Points, radius: int, colour: tuple[int, int, int]) -> None:
    cv2.circle(canvas, (int(point[0]), int(point[1])), radius, colour, thickness=-1)


def _hand(canvas: Pixels, hand: Points, unit: float) -> None:
    for index, (start, end) in enumerate(FINGERS):
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(index / len(FINGERS), 1, 1))
        ends = [(int(x), int(y)) for x, y in (hand[start], hand[end])]
        cv2.line(canvas, ends[0], ends[1], (red, green, blue), max(1, round(2 * unit)))
    for point in hand:
        _dot(canvas, point, max(1, round(4 * unit)), (0, 0, 255))
