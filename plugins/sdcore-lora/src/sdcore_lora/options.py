"""What a user writes to use a LoRA."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from sdcore import Asset, Options

from . import curve
from .blocks import NAME, VECTORS

LIMIT = 20.0


class LoRA(Options):
    """One LoRA: ``use=[LoRA(path="style.safetensors", weight=0.8)]``. Several are added."""

    path: Asset = Field(description="a .safetensors file, or a folder of peft")
    weight: float | tuple[tuple[float, float], ...] = Field(
        default=1.0,
        description="how strong, -20 to 20: a number, or [fraction, weight] keyframes over the steps, linear between "
        "them: [[0, 1], [0.6, 0.2]]",
    )
    text_encoder_weight: float | None = Field(
        default=None,
        ge=-LIMIT,
        le=LIMIT,
        description="for the text encoders; by default the weight at the start of the run",
    )
    start: float = Field(default=0.0, ge=0, lt=1, description="part of the run before which it is off")
    end: float = Field(default=1.0, gt=0, le=1, description="part of the run from which it is off")
    blocks: dict[str, float] | tuple[float, ...] | None = Field(
        default=None,
        description='factors for blocks: {"down.1": 0.5, "mid": 1, "up": 0.8, "text": 0}, or the 12, 17, 20 or 26 '
        "numbers of lora-block-weight",
    )
    branches: tuple[str, ...] | None = Field(
        default=None,
        description='only for these predictions of a step, such as ["cond"]; text encoders are then left alone unless '
        "text_encoder_weight is given",
    )
    words: bool = Field(default=True, description="whether new words that the file brings may be used in prompts")
    allow_pickle: bool = Field(
        default=False, description="read .bin and .pt files too; only tensors are taken from them"
    )

    @field_validator("path")
    @classmethod
    def _some_path(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("path is empty; name the LoRA's file")
        return value

    @field_validator("weight", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("weight is true or false; give a number")
        return value

    @field_validator("weight")
    @classmethod
    def _check_weight(cls, value: float | tuple[tuple[float, float], ...]) -> float | tuple[tuple[float, float], ...]:
        if isinstance(value, float | int):
            if abs(value) > LIMIT:
                raise ValueError(f"weight is {value}; it must be from -{LIMIT:g} to {LIMIT:g}")
            return value
        if not value:
            raise ValueError("weight has no keyframes; give a number or [[fraction, weight], ...]")
        fractions = [fraction for fraction, _ in value]
        if any(not 0 <= fraction <= 1 for fraction in fractions) or sorted(set(fractions)) != fractions:
            raise ValueError(f"the fractions of the keyframes are {fractions}; they must rise, from 0 to 1")
        if any(abs(weight) > LIMIT for _, weight in value):
            raise ValueError(f"a keyframe's weight is beyond {LIMIT:g}")
        return value

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if not NAME.fullmatch(name):
                    raise ValueError(
                        f"{name!r} is no block; name down, down.1, down.1.0, mid, up, up.2, text, other, or IN04, M00, "
                        "OUT05"
                    )
        elif value is not None and len(value) not in VECTORS:
            raise ValueError(f"{len(value)} block weights; a vector has {', '.join(map(str, VECTORS))}")
        return value

    @field_validator("branches")
    @classmethod
    def _check_branches(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("branches is empty: the LoRA would be nowhere; leave it out for all")
        return value

    @model_validator(mode="after")
    def _check_window(self) -> LoRA:
        if self.start >= self.end:
            raise ValueError(f"start is {self.start} and end is {self.end}: it would never be on")
        return self

    @property
    def constant(self) -> bool:
        """Whether it is the same in every step and branch, so that it can be merged."""
        return self.branches is None and curve.is_constant(self.weight, self.start, self.end)

    @property
    def only_switched(self) -> bool:
        """Whether it is on with one weight for a part of the run, in all branches."""
        return self.branches is None and curve.is_constant(self.weight, 0.0, 1.0)

    def at(self, fraction: float) -> float:
        """The weight for the U-Net at a point of the run, 0 to 1."""
        return curve.at(self.weight, self.start, self.end, fraction)

    @property
    def for_text(self) -> float:
        """The weight for the text encoders."""
        if self.text_encoder_weight is not None:
            return self.text_encoder_weight
        return 0.0 if self.branches is not None else self.at(0.0)
