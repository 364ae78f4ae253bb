"""What users write: ``Inpaint(mask="mask.png")``, ``Outpaint(left=64)``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sdcore import Options
from sdcore.plugin import AssetMark

from .mask_source import mask_option

Content = Literal["original", "fill", "noise", "nothing"]
Fill = Literal["edge", "mean"]
Softness = Literal["hard", "soft", "differential"]
Anchor = Literal[
    "center", "left", "right", "top", "bottom", "top-left", "top-right", "bottom-left", "bottom-right"
]  # fmt: skip
Side = Annotated[int, Field(ge=0, le=16_384)]
Pixels = Annotated[int, Field(ge=0, le=1024)]


class Inpaint(Options):
    """Redraw what a mask marks in the request's ``image``."""

    mask: Annotated[Any, AssetMark()] = Field(
        description="white is redrawn, black is kept: a path, PIL picture or bytes; grey, as large as the picture"
    )
    softness: Softness = Field(
        default="hard",
        description="hard: the mask is cut at half grey; soft: grey blends old and new in every step; "
        "differential: grey is the strength with which a pixel is redrawn (arXiv 2306.00950)",
    )
    content: Content = Field(
        default="original",
        description="what the marked part holds before noise is added: the picture itself, a fill from its "
        "surroundings, latent noise, or nothing (zeros); it shows below strength 1",
    )
    fill: Fill = Field(
        default="edge",
        description="how content=fill is made: edge spreads the surrounding colours inwards, mean is their mean",
    )
    invert: bool = Field(default=False, description="black is redrawn instead of white")
    grow: Pixels = Field(default=0, description="pixels by which the marked part grows on every side, after invert")
    shrink: Pixels = Field(default=0, description="pixels by which it shrinks, after grow (both: holes are closed)")
    blur: float = Field(
        default=0.0, ge=0, le=1024, description="radius in pixels of a Gaussian blur of the mask, last; for soft masks"
    )
    only_masked: bool = Field(
        default=False, description="draw only the marked part and its surroundings, enlarged, and paste it back"
    )
    padding: Pixels = Field(
        default=32, description="only_masked: pixels of surroundings on every side that the model sees"
    )
    composite: bool = Field(
        default=True,
        description="put the input's own pixels back outside the mask, bit for bit; only_masked always does",
    )
    feather: float = Field(
        default=0.0, ge=0, le=1024, description="pixels beyond the mask over which the new picture fades into the old"
    )
    colour_match: bool = Field(
        default=False,
        description="give the new picture the colours (mean and spread) of the old one, compared around the mask",
    )

    @field_validator("mask")
    @classmethod
    def _mask(cls, value: Any) -> Any:
        return mask_option(value)


class Outpaint(Options):
    """Make the canvas of the request's ``image`` larger, and draw what is new."""

    left: Side = Field(default=0, description="pixels to add on the left")
    top: Side = Field(default=0, description="pixels to add at the top")
    right: Side = Field(default=0, description="pixels to add on the right")
    bottom: Side = Field(default=0, description="pixels to add at the bottom")
    width: int | None = Field(
        default=None, ge=8, le=16_384, description="width of the result, instead of left and right"
    )
    height: int | None = Field(
        default=None, ge=8, le=16_384, description="height of the result, instead of top and bottom"
    )
    anchor: Anchor = Field(default="center", description="where in a canvas of this width and height the picture lies")
    overlap: Pixels = Field(
        default=8, description="width in pixels of the band of the picture that is redrawn softly where it grows"
    )
    content: Literal["fill", "noise", "nothing"] = Field(
        default="fill",
        description="what the new area holds before noise is added: a fill, latent noise, or nothing (zeros)",
    )
    fill: Fill = Field(
        default="edge", description="edge spreads the picture's border outwards, mean is its mean colour"
    )
    round_limit: int | None = Field(
        default=None,
        ge=8,
        le=4096,
        description="most pixels to add on a side at a time; none: half of the model's own size",
    )
    feather: float = Field(
        default=0.0,
        ge=0,
        le=1024,
        description="pixels beyond the overlap over which the new picture fades into the old",
    )
    colour_match: bool = Field(
        default=False, description="give the new area the colours of the picture, compared beside where it grows"
    )

    @model_validator(mode="after")
    def _grows(self) -> Outpaint:
        sides = (self.left, self.top, self.right, self.bottom)
        if any(sides) and (self.width is not None or self.height is not None):
            raise ValueError("sides (left, top, right, bottom) and width or height are both given; keep one way")
        if not any(sides) and self.width is None and self.height is None:
            raise ValueError(
                "nothing is to grow: give at least one of left, top, right, bottom (pixels), or width or height"
            )
        return self

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, canvas width, canvas height) for a picture of this size.

        Raises:
            ValueError: the target is smaller than the picture, or as large.
        """
        if any((self.left, self.top, self.right, self.bottom)):
            return self.left, self.top, width + self.left + self.right, height + self.top + self.bottom
        wide, high = self.width or width, self.height or height
        if wide < width or high < height or (wide, high) == (width, height):
            raise ValueError(
                f"the target of {wide}x{high} is not larger than the picture of {width}x{height}; give a larger width "
                "or height, or left, top, right, bottom"
            )
        across = 0 if "left" in self.anchor else wide - width if "right" in self.anchor else (wide - width) // 2
        down = 0 if "top" in self.anchor else high - height if "bottom" in self.anchor else (high - height) // 2
        return across, down, wide, high
