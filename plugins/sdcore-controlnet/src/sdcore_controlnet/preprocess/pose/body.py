"""People: BlazePose (Bazarevsky et al. 2020), its detector and its 33 landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdcore import ModelError
from sdcore_controlnet.preprocess.arrays import Pixels

from .detection import PEOPLE, Detection, decoded, suppressed
from .geometry import Points, Region, aligned, letterbox
from .network import infer

LANDMARKS = 33
_SIDE = 256


@dataclass(frozen=True)
class Body:
    """A person.

    Attributes:
        score: how sure the network is that somebody is there, 0 to 1.
        points: (33, 2), in pixels of the picture.
        visibility: (33,), 0 to 1.
    """

    score: float
    points: Points
    visibility: NDArray[np.float64]


def find_bodies(
    pixels: Pixels, confidence: float = 0.5, most: int = 5, network: str | Path = "pose_landmark_lite"
) -> list[Body]:
    """People in a picture (height, width, 3), best first.

    Args:
        pixels: RGB.
        confidence: the least score.
        most: how many.
        network: for the landmarks: the bundled one, or a path to a larger one.
    """
    found: list[Body] = []
    for detection in find_people(pixels, confidence):
        body = landmarks(pixels, region_of(detection), network)
        if body.score >= confidence and not any(_same(body, other) for other in found):
            found.append(body)
        if len(found) == most:
            break
    return found


def find_people(pixels: Pixels, confidence: float) -> list[Detection]:
    """Where people are: key point 0 is between the hips, 1 above the head, as far as the body reaches."""
    whole = letterbox(*pixels.shape[:2])
    out = infer("pose_detection", whole.cut(pixels, PEOPLE.side, replicate=False) * 2 - 1)
    raw, logits = out["Identity"].astype(np.float64), out["Identity_1"].astype(np.float64)[:, 0]
    return [found.within(whole) for found in suppressed(decoded(raw, logits, PEOPLE, confidence))]


def region_of(detection: Detection) -> Region:
    """The square in which the landmark network looks: the person stands upright in it."""
    return aligned(detection.points[0], detection.points[1], 90).changed(1.25)


def landmarks(pixels: Pixels, region: Region, network: str | Path = "pose_landmark_lite") -> Body:
    """The landmarks of the person in a region."""
    out = infer(network, region.cut(pixels, _SIDE))
    if not out.keys() >= {"Identity", "Identity_1", "Identity_3"} or out["Identity"].size != 195:
        raise ModelError(f"{network} is none of MediaPipe's pose_landmark_*.tflite: it gives {', '.join(out)}")
    values = out["Identity"].astype(np.float64).reshape(-1, 5)[:LANDMARKS]
    places = refined(values[:, :2] / _SIDE, out["Identity_3"][..., :LANDMARKS])
    return Body(float(out["Identity_1"][0]), region.project(places), sigmoid(values[:, 3]))


def refined(places: Points, heat: NDArray[np.float32], kernel: int = 7, least: float = 0.5) -> Points:
    """Landmarks moved to the centre of the heat around them, where there is some.

    Args:
        places: (n, 2), 0 to 1.
        heat: (rows, columns, n) logits.
        kernel: width of the window, in cells.
        least: the warmest cell of the window needs as much, as a probability.
    """
    rows, columns = heat.shape[:2]
    result = places.copy()
    for index, (x, y) in enumerate(places):
        column, row = int(x * columns), int(y * rows)
        if not (0 <= column < columns and 0 <= row < rows):
            continue
        left, top = max(0, column - kernel // 2), max(0, row - kernel // 2)
        window = sigmoid(heat[top : row + kernel // 2 + 1, left : column + kernel // 2 + 1, index].astype(np.float64))
        if window.max() < least:
            continue
        ys, xs = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
        result[index] = (xs * window).sum() / window.sum() / columns, (ys * window).sum() / window.sum() / rows
    return result


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -100, 100))), np.float64)


def _same(body: Body, other: Body) -> bool:
    """Whether two detections led to one person: shoulders and hips lie within a quarter of the trunk's length."""
    trunk = [11, 12, 23, 24]
    size = float(np.ptp(other.points[trunk], axis=0).max())
    return float(np.hypot(*(body.points[trunk] - other.points[trunk]).T).mean()) < 0.25 * size
