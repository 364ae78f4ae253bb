"""Normals: which way surfaces face, from a depth picture or through a depth network."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from .arrays import Pixels, Plane, at_resolution, grey_of, to_8_bits
from .depth import estimated
from .options import Normal


def normals_of(height_field: Plane) -> Plane:
    """Unit normals (height, width, 3) of a surface seen straight on: to the right, up, towards the viewer.

    Args:
        height_field: (height, width), how far each point stands out towards the viewer, in pixels.
    """
    # Central differences inside and one-sided ones at the border: exact for planes up to the edge.
    rows, columns = height_field.shape
    down = np.gradient(height_field, axis=0) if rows > 1 else np.zeros_like(height_field)
    right = np.gradient(height_field, axis=1) if columns > 1 else np.zeros_like(height_field)
    normals = np.stack([-right, down, np.ones_like(height_field)], axis=2)
    return np.asarray(normals / np.linalg.norm(normals, axis=2, keepdims=True), np.float32)


def normals_of_depth(depth: Plane, relief: float, smooth: float = 0.0, background: float = 0.0) -> Plane:
    """Unit normals (height, width, 3) of a depth from 0 (far) to 1 (near).

    Args:
        depth: (height, width).
        relief: how far 1 stands out over 0, as a part of the short side.
        smooth: standard deviation, in pixels, of the blur before slopes are taken: of 256 grey values, the steps
            would show.
        background: where ``depth`` is lower, the normal faces the viewer.
    """
    field = depth * np.float32(relief * min(depth.shape))
    if smooth:
        field = _blurred(field, smooth)
    normals = normals_of(field)
    normals[depth < background] = (0, 0, 1)
    return normals


def coloured(normals: Plane, axes: str = "controlnet") -> Pixels:
    """Normals as colours (height, width, 3): -1 to 1 is 0 to 255.

    Args:
        normals: to the right, up, towards the viewer.
        axes: ``"controlnet"``: red is left, green is up, blue is towards the viewer (ControlNet 1.1, as ScanNet);
            ``"opengl"``: red is right.
    """
    signs = np.array([-1, 1, 1] if axes == "controlnet" else [1, 1, 1], np.float32)
    return to_8_bits((normals * signs + 1) * 127.5)


def run(image: Image.Image, options: Normal) -> Image.Image:
    """The preprocessor ``normal``."""

    def work(small: Pixels) -> Pixels:
        if options.model is None:
            depth = np.asarray(grey_of(small) / 255, np.float32)
        else:
            depth = estimated(small, options)
        return coloured(normals_of_depth(depth, options.relief, options.smooth, options.background), options.axes)

    return at_resolution(image, options.resolution, work)


def _blurred(field: Plane, sigma: float) -> Plane:
    """A Gaussian blur that leaves planes as they are: beyond the border the field goes on as it was."""
    around = max(1, round(4 * sigma))
    padded = np.pad(field, around, mode="reflect", reflect_type="odd") if min(field.shape) > 1 else field
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    inside = blurred[around:-around, around:-around] if min(field.shape) > 1 else blurred
    return np.asarray(inside, np.float32)
