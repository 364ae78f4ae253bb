"""Pose: people as OpenPose skeletons, found by MediaPipe's networks (Apache-2.0), which are bundled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore_controlnet.preprocess.arrays import Pixels
    from sdcore_controlnet.preprocess.options import Pose

    from .skeleton import Person

__all__ = ["find_persons", "run"]


def find_persons(pixels: Pixels, options: Pose) -> list[Person]:
    """Everybody in a picture (height, width, 3), best first.

    Raises:
        ModelError: the extra ``pose`` is not installed.
    """
    from .body import find_bodies
    from .face import find_face
    from .hands import find_hands
    from .skeleton import Person, openpose_points

    height, width = pixels.shape[:2]
    found: list[Person] = []
    network = "pose_landmark_lite" if options.model is None else Path(options.model).expanduser()
    for body in find_bodies(pixels, options.confidence, options.people, network):
        points, seen = openpose_points(body, options.visibility)
        # Landmarks outside the picture are guesses.
        seen &= (points >= 0).all(1) & (points[:, 0] < width) & (points[:, 1] < height)
        found.append(
            Person(
                points,
                seen & options.body,
                tuple(find_hands(pixels, body, options.visibility, options.confidence)) if options.hands else (),
                find_face(pixels, body, options.confidence) if options.face else None,
            )
        )
    return found


def run(image: Image, options: Pose) -> Image:
    """The preprocessor ``pose``."""
    from sdcore_controlnet.preprocess.arrays import picture_of, pixels_of

    from .skeleton import draw_people

    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    return picture_of(draw_people(find_persons(pixels, options), height, width, options.thickness))
