"""Every preprocessor by name. Cheap: what does the work is imported when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sdcore import Options
from sdcore.preprocessing import Preprocessor

from . import options as of

if TYPE_CHECKING:
    from PIL.Image import Image

ALIASES = {
    "none": "passthrough",
    "hed": "soft-edge",
    "softedge": "soft-edge",
    "lineart": "line-art",
    "lineart-anime": "line-art-anime",
    "mlsd": "lines",
    "openpose": "pose",
    "seg": "segmentation",
    "midas": "depth",
    "normalbae": "normal",
    "color": "colour",
}
"""What these are called elsewhere."""

_MODEL = "weights: set `model` to a local folder or a hub id"
_POSE = "the extra `pose`: pip install 'sdcore-controlnet[pose]'"


def preprocessors() -> dict[str, Preprocessor]:
    """All of them, in the order in which people look for them."""
    pose = "" if find_spec("ai_edge_litert") else _POSE
    found = (
        _entry("canny", "thin edges, black and white", "canny", of.Canny, kinds=("canny",)),
        _entry(
            "scribble", "strokes of a drawing, or contours of a photo", "scribble", of.Scribble, kinds=("scribble",)
        ),
        _entry("soft-edge", "soft edges, as HED draws them", "soft_edge", of.SoftEdge, kinds=("softedge", "hed")),
        _entry("line-art", "lines of a drawing or photo", "line_art", of.LineArt, kinds=("lineart",)),
        _entry(
            "line-art-anime", "inked lines", "line_art:run_anime", of.LineArtAnime, kinds=("lineart_anime", "lineart")
        ),
        _entry("lines", "straight lines, as M-LSD draws them", "lines", of.Lines, kinds=("mlsd",)),
        _entry("depth", "near is white, far is black", "depth", of.Depth, needs=_MODEL, kinds=("depth",)),
        _entry(
            "normal",
            "directions of surfaces, of a depth picture or through `model`",
            "normal",
            of.Normal,
            kinds=("normal", "normalbae"),
        ),
        _entry("pose", "people as OpenPose skeletons", "pose", of.Pose, needs=pose, kinds=("openpose",)),
        _entry(
            "segmentation",
            "what is where, in the 150 colours of ADE20K",
            "segmentation",
            of.Segmentation,
            needs=_MODEL,
            kinds=("seg",),
        ),
        _entry("colour", "a grid of mean colours", "resample:run_colour", of.Colour, kinds=("color",)),
        _entry("tile", "the picture with its details taken away", "resample:run_tile", of.Tile, kinds=("tile",)),
        _entry("blur", "the picture blurred", "resample:run_blur", of.Blur, kinds=("tile", "blur")),
        _entry("shuffle", "its colours, the shapes washed about", "shuffle", of.Shuffle, kinds=("shuffle",)),
        _entry(
            "threshold", "black and white by brightness", "tone:run_threshold", of.Threshold, kinds=("scribble", "qr")
        ),
        _entry("invert", "black and white exchanged", "tone:run_invert", None, kinds=("scribble", "lineart")),
        _entry("passthrough", "unchanged: the picture is one already", "tone:run_passthrough", None),
    )
    return {entry.name: entry for entry in found}


def canonical(name: str) -> str:
    """The name used here for one that is used elsewhere: ``"openpose"`` is ``"pose"``; others stay as they are."""
    spelt = name.strip().lower().replace("_", "-")
    return ALIASES.get(spelt, spelt)


def _entry(
    name: str,
    about: str,
    where: str,
    options: type[Options] | None,
    *,
    needs: str = "",
    kinds: tuple[str, ...] = (),
) -> Preprocessor:
    return Preprocessor(name, about, _later(where), options, needs=needs, kinds=kinds)


def _later(where: str) -> Callable[[Image, Any], Image]:
    module, _, function = where.partition(":")

    def run(image: Image, options: Any) -> Image:
        work: Callable[[Image, Any], Image] = getattr(
            importlib.import_module(f".{module}", __package__), function or "run"
        )
        return work(image, options)

    return run
