"""What a user writes to train a LoRA."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from sdcore import Options

from .targets import GROUPS

LARGEST = 1024
Size = Literal["float32", "float16", "bfloat16"]


class TrainLoRA(Options):
    """How a LoRA is made: ``TrainConfig(use=[TrainLoRA(rank=16)], ...)``, or ``sdcore train lora --rank 16``."""

    rank: int = Field(default=8, ge=1, le=LARGEST, description="of the change of linear layers and 1x1 convolutions")
    alpha: float | None = Field(
        default=None, gt=0, le=100_000, description="the change is multiplied by alpha / rank; None is the rank"
    )
    conv_rank: int | None = Field(
        default=None, ge=1, le=LARGEST, description="of larger convolutions, where targets has them; None is the rank"
    )
    conv_alpha: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="of larger convolutions; None is the same share of the rank as alpha",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of a layer's inputs that its LoRA does not see")
    dora: bool = Field(default=False, description="learn lengths and directions of rows apart (arXiv 2402.09353)")
    rslora: bool = Field(
        default=False, description="multiply by alpha / sqrt(rank) instead, for large ranks (arXiv 2312.03732)"
    )
    targets: str = Field(
        default="attention+feed-forward",
        description="which layers: attention, attention+feed-forward, linear, linear+conv, or a regular expression "
        r"that is searched for in names such as unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    )
    unet: bool = Field(default=True, description="train layers of the U-Net")
    text_encoder: bool = Field(default=False, description="train layers of the text encoders too")
    text_encoder_rank: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST,
        description="of the text encoders; None is the rank. Alpha keeps its share of it",
    )
    init: Literal["default", "gaussian", "pissa"] = Field(
        default="default",
        description="first weights: no change with Kaiming's or normal numbers in the lower half, or the principal "
        "singular vectors of the layers (arXiv 2404.02948; the file then has twice the rank)",
    )
    resume_from: str | None = Field(
        default=None, description="a LoRA to go on from: a file of any layout or a folder of peft, of the same ranks"
    )
    file: str = Field(default="lora", description="name of what is written into the output folder, without an ending")
    layout: Literal["kohya", "diffusers", "peft", "both"] = Field(
        default="kohya",
        description="FILE.safetensors with kohya's names, which nearly all programs read, or with those of diffusers "
        "(which it needs for DoRA); the folder FILE-peft; or both: kohya and peft",
    )
    dtype: Size = Field(default="float16", description="of the stored weights")
    trigger: str = Field(default="", description="words that the LoRA answers to, as a note in kohya's file")

    @field_validator("targets")
    @classmethod
    def _known_or_expression(cls, value: str) -> str:
        if value not in GROUPS:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(
                    f"targets is {value!r}: neither {', '.join(GROUPS)} nor a regular expression ({error})"
                ) from None
        if not value:
            raise ValueError(f"targets is empty; give {', '.join(GROUPS)} or a regular expression")
        return value

    @field_validator("file")
    @classmethod
    def _only_a_name(cls, value: str) -> str:
        value = value.removesuffix(".safetensors")
        if not re.fullmatch(r"[^/\\:\0]+", value) or value.startswith("."):
            raise ValueError(f"file is {value!r}; give a name without folders, it is written into the output folder")
        return value

    @model_validator(mode="after")
    def _something(self) -> TrainLoRA:
        if not (self.unet or self.text_encoder):
            raise ValueError("neither unet nor text_encoder is to be trained; set one of them")
        if self.init == "pissa" and self.resume_from is not None:
            raise ValueError("init is 'pissa' and resume_from gives first weights as well; leave one of them out")
        if self.text_encoder_rank is not None and not self.text_encoder:
            raise ValueError(f"text_encoder_rank is {self.text_encoder_rank}, but text_encoder is false; set it")
        return self
