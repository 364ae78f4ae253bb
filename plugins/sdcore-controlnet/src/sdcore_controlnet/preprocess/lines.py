"""Straight lines without a network: what M-LSD draws, from the classical detector that it is named after.

Pieces are found with LSD (von Gioi, Jakubowicz, Morel and Randall 2010); pieces of one line, and the two sides of
a stroke, are merged; short ones are dropped.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .arrays import Pixels, factor_to, grey_of, picture_of, pixels_of, resized
from .options import Lines

Segments = NDArray[np.float64]
"""(n, 4): x and y of one end, x and y of the other."""

MOST = 4000


def find_segments(grey: Pixels) -> Segments:
    """All straight pieces in a grey picture, longest first, at most 4000."""
    if min(grey.shape) < 8:
        return np.zeros((0, 4))
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(grey)[0]
    segments = np.zeros((0, 4)) if found is None else np.asarray(found, np.float64).reshape(-1, 4)
    return segments[np.argsort(-lengths(segments), kind="stable")][:MOST]


def lengths(segments: Segments) -> NDArray[np.float64]:
    """(n,) lengths."""
    return np.asarray(np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1]), np.float64)


def merged(segments: Segments, angle: float, distance: float, gap: float) -> Segments:
    """Pieces that lie on one line made into one, longest first.

    Args:
        segments: (n, 4).
        angle: the most, in degrees, between the directions of two pieces.
        distance: the most, in pixels, that the ends of a piece may lie beside the line of a longer one.
        gap: the most, in pixels, between two pieces along the line.
    """
    left = segments[np.argsort(-lengths(segments), kind="stable")]
    left = left[lengths(left) > 0]
    done: list[NDArray[np.float64]] = []
    while len(left):
        line, left = left[0], left[1:]
        while len(left):
            belongs = _on_line(line, left, angle, distance, gap)
            if not belongs.any():
                break
            line = _one_line(np.vstack([line[None], left[belongs]]))
            left = left[~belongs]
        done.append(line)
    result = np.array(done).reshape(-1, 4)
    return result[np.argsort(-lengths(result), kind="stable")]


def drawn(segments: Segments, height: int, width: int, thickness: int) -> Pixels:
    """White lines on black, (height, width)."""
    canvas = np.zeros((height, width), np.uint8)
    for x0, y0, x1, y1 in np.rint(segments).astype(int).tolist():
        cv2.line(canvas, (x0, y0), (x1, y1), 255, thickness)
    return canvas


def straight_lines(pixels: Pixels, options: Lines) -> Segments:
    """The lines in a picture, (n, 4), in its own coordinates, longest first."""
    height, width = pixels.shape[:2]
    factor = factor_to(height, width, options.resolution)
    small = resized(pixels, max(1, round(height * factor)), max(1, round(width * factor)))
    found = merged(find_segments(grey_of(small)), options.merge_angle, options.merge_distance, options.merge_gap)
    found = found[lengths(found) >= options.min_length * min(small.shape[:2])]
    scale = np.array([width / small.shape[1], height / small.shape[0]] * 2)
    # Pixel centres, not corners, keep their place.
    return np.asarray((found + 0.5) * scale - 0.5, np.float64)


def run(image: Image.Image, options: Lines) -> Image.Image:
    """The preprocessor ``lines``."""
    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    thickness = max(1, round(options.thickness / factor_to(height, width, options.resolution)))
    return picture_of(drawn(straight_lines(pixels, options), height, width, thickness))


def _direction(segments: Segments) -> NDArray[np.float64]:
    along = segments[..., 2:] - segments[..., :2]
    return np.asarray(along / np.linalg.norm(along, axis=-1, keepdims=True), np.float64)


def _on_line(
    line: NDArray[np.float64], others: Segments, angle: float, distance: float, gap: float
) -> NDArray[np.bool_]:
    along = _direction(line)
    across = np.array([-along[1], along[0]])
    parallel = np.abs(_direction(others) @ along) >= np.cos(np.radians(angle)) - 1e-12
    ends = others.reshape(-1, 2, 2) - line[:2]
    beside = np.abs(ends @ across).max(1) <= distance
    place = ends @ along
    length = float(np.hypot(*(line[2:] - line[:2])))
    near = (place.min(1) <= length + gap) & (place.max(1) >= -gap)
    return np.asarray(parallel & beside & near, np.bool_)


def _one_line(segments: Segments) -> NDArray[np.float64]:
    """The line through the middle of all, weighted by length, as far as their ends reach."""
    weights = lengths(segments)
    directions = _direction(segments)
    directions *= np.sign(directions @ directions[0])[:, None]
    along = (directions * weights[:, None]).sum(0)
    along /= np.linalg.norm(along)
    middles = 0.5 * (segments[:, :2] + segments[:, 2:])
    centre = (middles * weights[:, None]).sum(0) / weights.sum()
    place = (segments.reshape(-1, 2) - centre) @ along
    return np.concatenate([centre + place.min() * along, centre + place.max() * along])
