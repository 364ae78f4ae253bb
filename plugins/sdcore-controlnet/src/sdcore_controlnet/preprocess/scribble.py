"""Scribbles: the strokes of a drawing, or the contours of a photo as one would draw them."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, Plane, at_resolution, grey_of
from .options import Scribble
from .soft_edge import soft_edges


def looks_drawn(pixels: Pixels) -> bool:
    """Whether most of the picture is paper: at least 60 % of it nearly white."""
    return bool((pixels.min(2) >= 230).mean() >= 0.6)


def strokes(grey: Pixels, level: int | None = None) -> Pixels:
    """White strokes on black, (height, width), of a drawing on paper or, if most of it is dark, on a blackboard.

    Args:
        grey: (height, width).
        level: parts strokes from paper; None: Otsu's.
    """
    light = np.median(grey) > 127
    if level is None:
        if int(grey.max()) - int(grey.min()) < 16:  # an empty sheet: Otsu would find strokes in its grain
            return np.zeros_like(grey)
        found, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        level = int(found)
    return np.where(grey <= level if light else grey > level, 255, 0).astype(np.uint8)


def contours(pixels: Pixels, detail: float = 1.0, thickness: int = 4) -> Pixels:
    """White strokes of about ``thickness`` pixels on black, (height, width), along the contours of a photo.

    Thin lines are those of Canny on a blurred picture; of them stay the long ones where the soft edges are strong on
    the whole, so that texture is left out and lines are not broken up.
    """
    unit = min(pixels.shape[:2]) / 512
    strength = soft_edges(pixels, detail=0.5 * detail)
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(0.6, 2.5 * unit / detail), borderType=cv2.BORDER_REPLICATE)
    thin = np.asarray(cv2.Canny(blurred, 20, 60), dtype=np.uint8)
    thin = strong(thin, strength, least=0.3 / detail, length=40 * unit / detail)
    width = max(1, round(thickness * min(1.0, unit)))
    return np.asarray(cv2.dilate(thin, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))), dtype=np.uint8)


def strong(thin: Pixels, strength: Plane, least: float, length: float) -> Pixels:
    """Of thin lines those of at least ``length`` connected pixels, whose mean ``strength`` is at least ``least``.

    Args:
        thin: (height, width), 0 or 255.
        strength: (height, width).
        least: in units of ``strength``.
        length: in pixels.
    """
    count, labels = cv2.connectedComponents(thin, connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    totals = np.bincount(labels.ravel(), weights=strength.ravel(), minlength=count)
    keep = (sizes >= length) & (totals >= least * sizes)
    keep[0] = False
    return np.where(keep[labels], 255, 0).astype(np.uint8)


def run(image: Image.Image, options: Scribble) -> Image.Image:
    """The preprocessor ``scribble``."""

    def work(small: Pixels) -> Pixels:
        drawn = looks_drawn(small) if options.source == "auto" else options.source == "drawing"
        return strokes(grey_of(small), options.level) if drawn else contours(small, options.detail, options.thickness)

    return at_resolution(image, options.resolution, work, binary=True)
