"""The options of the plugin ``watermark``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from sdcore import Asset, Options


class Watermark(Options):
    """Put an invisible mark into every picture that leaves."""

    locked: ClassVar[bool] = True

    key: Asset | None = Field(
        default=None,
        description="a key file made by `sdcore watermark keygen`, or env:NAME for a variable that names one or holds "
        "it; none takes the public key, with a warning",
    )
    payload: int | Literal["auto"] = Field(
        default="auto", description="what the mark bears, 32 bits; auto derives them from key, prompt, seed and place"
    )
    scheme: str = Field(default="spread", description="how pixels are marked: spread, or another that is installed")
    psnr: float = Field(default=40.0, ge=30, le=50, description="decibels of the marked picture; lower is stronger")
    latent: bool = Field(
        default=False,
        description="mark the initial noise too, which survives redrawing; the same seed draws another picture",
    )
    latent_output: Literal["refuse", "allow"] = Field(
        default="refuse", description="whether output=latent, which leaves without a mark in pixels, is allowed"
    )
    previews: Literal["refuse", "allow"] = Field(default="refuse", description="whether unmarked previews may leave")
    unmarkable: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="whether a picture that cannot be marked (smaller than 64 pixels, flat) leaves without",
    )
    source: bool = Field(default=True, description="look for this key's mark in the picture that a run starts from")

    @field_validator("payload")
    @classmethod
    def _fits(cls, value: int | str) -> int | str:
        if isinstance(value, int) and (isinstance(value, bool) or not 0 <= value < 2**32):
            raise ValueError(f"payload is {value!r}; use a whole number from 0 to {2**32 - 1}, or auto")
        return value
