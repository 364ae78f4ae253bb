"""What users write: ``ControlNet(model="canny-folder", image="edges.png")``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sdcore import ImageError, Options
from sdcore.plugin import AssetMark

Mode = Literal["balanced", "prompt", "control"]
Resize = Literal["stretch", "crop", "pad"]
Factor = Annotated[float, Field(ge=-10, le=10)]
Fraction = Annotated[float, Field(ge=0, le=1)]
INPAINT = "inpaint"
"""The preprocessor that is not one of the registry: the request's picture, and -1 where it is to be redrawn."""


class ControlNet(Options):
    """Make pictures follow a control picture, through a ControlNet or a T2I-Adapter. May be used several times."""

    model: Annotated[Any, AssetMark()] = Field(
        description="ControlNet or T2I-Adapter: name of an installed one, folder of diffusers, .safetensors file, "
        "hub id, or a module"
    )
    image: Annotated[Any, AssetMark()] = Field(
        default=None,
        description="control picture: a path, PIL picture, bytes or data URI; none, with preprocess: the input picture",
    )
    preprocess: str | None = Field(
        default=None,
        description="preprocessor that makes the control picture, such as canny, or inpaint; none: ready as it is",
    )
    preprocess_options: Mapping[str, Any] = Field(default_factory=dict, description="options of the preprocessor")
    scale: Factor = Field(default=1.0, description="factor of all that is added to the U-Net; 0 switches it off")
    start: Fraction = Field(default=0.0, description="fraction of the steps at which control begins")
    end: Fraction = Field(default=1.0, description="fraction of the steps at which it ends")
    mode: Mode = Field(
        default="balanced",
        description="prompt: the prompt is more important; control: the control picture is (diffusers' guess_mode)",
    )
    blocks: tuple[Factor, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="a further factor for each residual, from the finest: 13 for SD1 and SD2, 10 for SDXL, 4 for a "
        "T2I-Adapter",
    )
    resize: Resize | None = Field(
        default=None, description="how a control picture of another aspect is fitted; none: such a picture is an error"
    )
    mask: Annotated[Any, AssetMark()] = Field(
        default=None, description="where control acts: white fully, black not at all; fitted as the control picture is"
    )
    inpaint_mask: Annotated[Any, AssetMark()] = Field(
        default=None, description="preprocess=inpaint: what is redrawn, white; fitted as the control picture is"
    )
    allow_pickle: bool = Field(default=False, description="accept .pth, .pt, .ckpt and .bin, read as plain tensors")

    @field_validator("model")
    @classmethod
    def _model(cls, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, str):
            if not value.strip():
                raise ValueError("it is empty; give a folder, a .safetensors file, a hub id, or a module")
            return value
        if not hasattr(value, "state_dict") or not hasattr(value, "config"):
            raise ValueError(
                f"a {type(value).__name__} is no network; give a folder, a .safetensors file, a hub id, or a module of "
                "diffusers (ControlNetModel, T2IAdapter)"
            )
        return value

    @field_validator("image", "mask", "inpaint_mask")
    @classmethod
    def _picture(cls, value: Any, info: Any) -> Any:
        """A path stays a path; bytes, data URIs and PIL pictures become a picture."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if value is None or (isinstance(value, str) and value[:5].lower() != "data:"):
            if value == "":
                raise ValueError("the path is empty; give a path, a PIL picture or bytes")
            return value
        from sdcore.images import load_image

        try:
            return load_image(value, name=info.field_name)
        except ImageError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _consistent(self) -> ControlNet:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be below end {self.end}; they are fractions of the steps")
        if self.image is None and self.preprocess is None:
            raise ValueError(
                "there is no control picture: give image, or preprocess, which makes it of the request's input picture"
            )
        if self.preprocess_options and self.preprocess in (None, INPAINT):
            raise ValueError("preprocess_options are given, but no preprocessor that has any; leave them out")
        if self.preprocess == INPAINT and self.inpaint_mask is None:
            raise ValueError("preprocess 'inpaint' needs inpaint_mask: what is redrawn, white")
        if self.preprocess != INPAINT and self.inpaint_mask is not None:
            raise ValueError("inpaint_mask belongs to preprocess='inpaint'; for a region of control use mask")
        return self

    @property
    def silent(self) -> bool:
        """Whether it changes nothing, so that nothing need be loaded."""
        return self.scale == 0 or (self.blocks is not None and not any(self.blocks))
