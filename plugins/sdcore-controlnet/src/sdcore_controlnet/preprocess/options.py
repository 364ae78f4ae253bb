"""The options of every preprocessor. Cheap to import: no arrays, no networks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sdcore import Asset, Options

_RESOLUTION = (
    "short side, in pixels, at which it works; a smaller picture is not enlarged, and the result has the size "
    "of the picture either way; none: the picture's own"
)
_MODEL = "a folder with config.json and safetensors weights, or a hub id"


class Resolution(Options):
    """What all that work at a size of their own share: 512, the size that ControlNets were trained at."""

    resolution: int | None = Field(default=512, ge=16, le=4096, description=_RESOLUTION)


class Canny(Options):
    """Options of ``canny``."""

    low: float = Field(default=100, ge=0, le=2000, description="weaker gradients are never edges")
    high: float = Field(
        default=200, ge=0, le=2000, description="stronger gradients always are; between, if they touch one"
    )
    aperture: Literal[3, 5, 7] = Field(
        default=3, description="size of the Sobel kernel; larger ones need larger thresholds"
    )
    resolution: int | None = Field(default=None, ge=16, le=4096, description=_RESOLUTION)

    @model_validator(mode="after")
    def _in_order(self) -> Canny:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}: swap them")
        return self


class SoftEdge(Resolution):
    """Options of ``soft-edge``."""

    strength: float = Field(default=1.0, gt=0, le=5, description="how bright weak edges become")
    detail: float = Field(default=1.0, ge=0.25, le=4, description="above 1 finer edges, below 1 only coarse ones")
    suppression: float = Field(default=1.0, ge=0, le=3, description="how much texture is held down; 0 keeps all of it")
    safe: bool = Field(default=False, description="few grey levels, which hide the noise of a picture from the network")


class Scribble(Resolution):
    """Options of ``scribble``."""

    source: Literal["auto", "photo", "drawing"] = Field(
        default="auto",
        description="a drawing's strokes become white on black; of a photo, its contours; auto looks at the paper",
    )
    level: int | None = Field(
        default=None, ge=1, le=254, description="drawing: grey value that parts strokes from paper; none: found (Otsu)"
    )
    detail: float = Field(default=1.0, ge=0.25, le=4, description="photo: above 1 more and finer contours")
    thickness: int = Field(default=4, ge=1, le=32, description="photo: width of the strokes, in pixels at `resolution`")


class LineArt(Resolution):
    """Options of ``line-art``."""

    sigma: float = Field(
        default=6.0, ge=0.5, le=30, description="radius of the paper around a line, in pixels at `resolution`"
    )
    noise: int = Field(default=8, ge=0, le=128, description="differences up to this grey value count as paper")
    strength: float = Field(default=1.0, gt=0, le=5, description="brightness of the lines")


class LineArtAnime(Resolution):
    """Options of ``line-art-anime``."""

    sigma: float = Field(default=1.0, ge=0.4, le=10, description="width of the lines, in pixels at `resolution`")
    sharpness: float = Field(
        default=0.95, ge=0.5, le=0.999, description="weight of the wider blur: higher is more sensitive"
    )
    contrast: float = Field(default=24.0, gt=0, le=200, description="how hard lines end: 200 is nearly black and white")
    smooth: int = Field(default=2, ge=0, le=8, description="passes that flatten areas before lines are sought")


class Lines(Resolution):
    """Options of ``lines``."""

    min_length: float = Field(
        default=0.1, ge=0, le=1, description="shorter lines are dropped; a part of the short side"
    )
    merge_angle: float = Field(
        default=4.0, ge=0, le=45, description="pieces within this angle, in degrees, may be one line"
    )
    merge_distance: float = Field(
        default=4.0, ge=0, le=50, description="... if no further beside it, in pixels at `resolution`"
    )
    merge_gap: float = Field(
        default=12.0, ge=0, le=500, description="... and no further along it, in pixels at `resolution`"
    )
    thickness: int = Field(default=1, ge=1, le=32, description="width of the drawn lines, in pixels at `resolution`")


class Depth(Resolution):
    """Options of ``depth``."""

    model: Asset | None = Field(
        default=None, description=f"the depth network: {_MODEL} (MiDaS, DPT, Depth-Anything, ZoeDepth...)"
    )
    predicts: Literal["auto", "inverse", "distance"] = Field(
        default="auto",
        description="whether the network gives large values to what is near (inverse) or far; auto: its config",
    )
    cut: float = Field(
        default=0.0, ge=0, le=20, description="percent of the nearest and farthest pixels that are cut off"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...; auto: cuda where there is one")


class Normal(Depth):
    """Options of ``normal``."""

    relief: float = Field(
        default=0.5,
        gt=0,
        le=10,
        description="height of white over black in the depth picture, as a part of its short side",
    )
    smooth: float = Field(default=2.0, ge=0, le=20, description="blur of the depth before slopes are taken, in pixels")
    background: float = Field(default=0.0, ge=0, le=1, description="what is farther than this depth faces the viewer")
    axes: Literal["controlnet", "opengl"] = Field(
        default="controlnet", description="controlnet (1.1): red left, green up, blue to the viewer; opengl: red right"
    )


class Segmentation(Resolution):
    """Options of ``segmentation``."""

    model: Asset | None = Field(
        default=None, description=f"the network: {_MODEL} (SegFormer, UPerNet, BEiT, DPT... on ADE20K)"
    )
    source: Literal["photo", "labels"] = Field(
        default="photo",
        description="labels: the picture is an ADE20K annotation: grey value 0 for nothing, then class + 1",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...; auto: cuda where there is one")


class Pose(Options):
    """Options of ``pose``."""

    people: int = Field(default=5, ge=1, le=50, description="the most people that are drawn, best first")
    body: bool = Field(default=True, description="draw the body")
    hands: bool = Field(default=False, description="draw hands too")
    face: bool = Field(default=False, description="draw the face too")
    confidence: float = Field(
        default=0.5, ge=0, le=1, description="how sure the network must be that somebody is there"
    )
    visibility: float = Field(
        default=0.5, ge=0, le=1, description="how sure that a joint is in view, for it to be drawn"
    )
    thickness: float = Field(
        default=1.0, gt=0, le=5, description="width of limbs, as a factor of what ControlNets know"
    )
    model: Asset | None = Field(
        default=None,
        description="MediaPipe's pose_landmark_full.tflite or ..._heavy.tflite instead of the bundled lite one",
    )


class Tile(Options):
    """Options of ``tile``."""

    factor: float = Field(
        default=4.0, ge=1, le=64, description="how much smaller it is made before it is enlarged again"
    )


class Blur(Options):
    """Options of ``blur``."""

    sigma: float = Field(default=4.0, gt=0, le=200, description="of the Gaussian, in pixels")


class Colour(Options):
    """Options of ``colour``."""

    cells: int = Field(default=8, ge=1, le=256, description="cells along the short side; each takes its mean colour")


class Threshold(Options):
    """Options of ``threshold``."""

    level: int | None = Field(
        default=None, ge=0, le=255, description="what is brighter becomes white; none: found (Otsu)"
    )


class Shuffle(Options):
    """Options of ``shuffle``."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="which of the distortions")
    size: float = Field(
        default=0.5, ge=0.05, le=2, description="size of what stays together, as a part of the short side"
    )
