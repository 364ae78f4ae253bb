"""Hands: where the body's wrists and fingers say, found again by a small network, then 21 landmarks."""

from __future__ import annotations

import numpy as np

from sdcore_controlnet.preprocess.arrays import Pixels

from .body import Body
from .geometry import Points, Region, aligned, angle_to
from .network import infer

WRIST_PINKY_INDEX = {"left": (15, 17, 19), "right": (16, 18, 20)}
_RECROP, _LANDMARKS = 256, 224


def find_hands(pixels: Pixels, body: Body, visibility: float = 0.5, confidence: float = 0.5) -> list[Points]:
    """Landmarks (21, 2) of each hand that is in view, in pixels."""
    found: list[Points] = []
    for joints in WRIST_PINKY_INDEX.values():
        if body.visibility[joints[0]] < visibility:
            continue
        wrist, pinky, index = body.points[list(joints)]
        hand = landmarks(pixels, again(pixels, region_of(wrist, pinky, index)), confidence)
        if hand is not None:
            found.append(hand)
    return found


def region_of(wrist: Points, pinky: Points, index: Points) -> Region:
    """A square that surely holds the hand, fingers up; the three points are (2,)."""
    middle = (2 * index + pinky) / 3
    size = 2 * float(np.hypot(*(middle - wrist)))
    region = Region(float(middle[0]), float(middle[1]), max(size, 1.0), angle_to(wrist, middle, 90))
    return region.changed(2.7, shift=-0.1)


def again(pixels: Pixels, region: Region) -> Region:
    """The square that holds the hand closely."""
    out = infer("hand_recrop", region.cut(pixels, _RECROP))["output_crop"].reshape(2, 2)
    centre, scale = region.project(out.astype(np.float64) / _RECROP)
    return aligned(centre, scale, -90).changed(1.0, shift=-0.1)


def landmarks(pixels: Pixels, region: Region, confidence: float) -> Points | None:
    """Landmarks (21, 2) of the hand in a region, in OpenPose's order too; None if there is none."""
    if region.size < 1:
        return None
    out = infer("hand_landmark_lite", region.cut(pixels, _LANDMARKS))
    if float(out["Identity_1"][0]) < confidence:
        return None
    return region.project(out["Identity"].astype(np.float64).reshape(21, 3)[:, :2] / _LANDMARKS)
