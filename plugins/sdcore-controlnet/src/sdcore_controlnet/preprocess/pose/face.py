"""Faces: where the body's eyes and mouth say, found again by BlazeFace, then a mesh; of it OpenPose's 70 points."""

from __future__ import annotations

import numpy as np

from sdcore_controlnet.preprocess.arrays import Pixels

from .body import Body, sigmoid
from .detection import FACES, decoded, suppressed
from .geometry import Points, Region, angle_to, around
from .network import infer

_SIDE = 192
_JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
_BROWS = (71, 63, 105, 66, 107, 336, 296, 334, 293, 301)
_NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_MOUTH = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
MESH = _JAW + _BROWS + _NOSE + _EYES + _MOUTH
"""Points of MediaPipe's mesh that lie where the 68 points of the iBUG 300-W marking are."""


def find_face(pixels: Pixels, body: Body, confidence: float = 0.5) -> Points | None:
    """The 70 points (70, 2) of a person's face, in pixels; None if it is not in view."""
    search = around(body.points[:11], angle_to(body.points[5], body.points[2], 0)).changed(3.0)
    if search.size < 1:
        return None
    out = infer("face_detection_short_range", search.cut(pixels, FACES.side) * 2 - 1)
    raw, logits = out["regressors"].astype(np.float64), out["classificators"].astype(np.float64)[:, 0]
    found = suppressed(decoded(raw, logits, FACES, confidence))
    if not found:
        return None
    points = found[0].within(search).points
    region = around(points, angle_to(points[0], points[1], 0)).changed(2.0, shift=-0.1)
    return landmarks(pixels, region, confidence)


def landmarks(pixels: Pixels, region: Region, confidence: float) -> Points | None:
    """The 70 points of the face in a region; None if there is none."""
    if region.size < 1:
        return None
    out = infer("face_landmark", region.cut(pixels, _SIDE))
    if float(sigmoid(out["conv2d_31"].astype(np.float64).reshape(1))[0]) < confidence:
        return None
    mesh = region.project(out["conv2d_21"].astype(np.float64).reshape(-1, 3)[:, :2] / _SIDE)
    points = mesh[list(MESH)]
    # OpenPose's last two are the pupils, which this mesh has not: the middles of the eyes stand for them.
    return np.vstack([points, points[36:42].mean(0), points[42:48].mean(0)])
