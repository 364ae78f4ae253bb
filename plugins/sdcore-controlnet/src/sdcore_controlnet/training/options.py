"""What a training of a control net is told. Cheap to import."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sdcore import Asset, Options

Range = tuple[float, float]
Width = Annotated[int, Field(ge=1, le=4096)]


class TrainControl(Options):
    """What the trainings of ControlNets and T2I-Adapters share."""

    start: Asset | None = Field(
        default=None,
        description="net to go on from: a folder, a .safetensors file, or the name of an installed one",
    )
    preprocess: str | None = Field(
        default=None,
        description="preprocessor that makes the control pictures of sources that bring none, such as canny; each is "
        "made once and kept",
    )
    preprocess_options: dict[str, Any] = Field(default_factory=dict, description="options of the preprocessor")
    vary: dict[str, Range] = Field(
        default_factory=dict,
        description="options of the preprocessor that are drawn anew for every visit of a picture, evenly from a "
        'range, such as {"low": [50, 150]}; control pictures are then made at every visit',
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of visits whose control picture is black")
    name: str = Field(
        default="controlnet", min_length=1, pattern=r"^\w[\w.-]*$", description="of the folder that is written"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(default="float16", description="of the stored weights")

    @model_validator(mode="after")
    def _consistent(self) -> TrainControl:
        if self.preprocess is None and (self.preprocess_options or self.vary):
            given = "preprocess_options" if self.preprocess_options else "vary"
            raise ValueError(f"{given} is given, but no preprocessor: set preprocess")
        for option, (low, high) in self.vary.items():
            if low > high:
                raise ValueError(f"vary: {option} is drawn from {low:g} to {high:g}; the smaller comes first")
            if option in self.preprocess_options:
                raise ValueError(f"{option} is in preprocess_options and in vary: leave it out of one of them")
        return self


class TrainControlNet(TrainControl):
    """How a ControlNet is trained (arXiv 2302.05543)."""

    embedding_channels: tuple[Width, ...] | None = Field(
        default=None,
        min_length=1,
        description="widths of the embedding of the control picture, each half the size of the one before, down to "
        "that of the latents; none: 16, 32, 96, 256 for latents 8 times smaller than pictures, as published nets have",
    )
    embedding_init: Literal["plain", "scaled"] = Field(
        default="plain",
        description="how the embedding begins: plain, as published nets did, behind which a line of one pixel has "
        "faded to less than a thousandth; scaled (He et al., arXiv 1502.01852) keeps its size, so that the control is "
        "followed after hundreds of steps and not after thousands",
    )


class TrainT2IAdapter(TrainControl):
    """How a T2I-Adapter is trained (arXiv 2302.08453)."""

    kind: Literal["full", "light"] = Field(default="full", description="light has a tenth of the weights; not for SDXL")
    blocks: int = Field(default=2, ge=1, le=8, description="residual blocks at each size")
    name: str = Field(
        default="t2i-adapter", min_length=1, pattern=r"^\w[\w.-]*$", description="of the folder that is written"
    )


class CannyConsistency(Options):
    """How much it counts that edges are where the control has them.

    What the U-Net predicts is decoded in one step, as in ControlNet++ (arXiv 2404.07987, equation 9), and where its
    edges are missing or too many is added to the loss. Captions play no part: it also teaches a net to be followed
    where the prompt says otherwise.
    """

    weight: float = Field(default=0.05, gt=0, le=10, description="of this term")
    pictures: int = Field(default=4, ge=1, description="of each micro-batch that are decoded: it costs time and memory")
    low: float = Field(default=100, ge=0, le=2000, description="gradients above count as edges: as for canny")
    high: float = Field(default=200, ge=0, le=2000, description="gradients above certainly are edges: as for canny")

    @model_validator(mode="after")
    def _in_order(self) -> CannyConsistency:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self
