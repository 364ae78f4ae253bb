"""What users write: ``Safety(profile="strict", sld="medium")``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from sdcore import Options
from sdcore.plugin import Asset

from .policy import ACTIONS, Action, Policy, Profile

DEFAULT_CHECKS = ("blocklist", "embedding", "nsfwjs")
Threshold = Annotated[float, Field(ge=0, le=1)]
SLD = Literal["off", "weak", "medium", "strong", "max"]


class Safety(Options):
    """Judge prompts, predicted pictures and pictures; withhold, blur or flag. Given in ``always`` it is a policy."""

    locked: ClassVar[bool] = True

    profile: Profile = Field(
        default="standard", description="where thresholds and the action come from that are not given"
    )
    checks: tuple[str, ...] = Field(
        default=DEFAULT_CHECKS,
        description="names of the checks; `sdcore safety explain` lists them. clip-checker and open-nsfw join by "
        "their paths",
    )
    thresholds: Mapping[str, Threshold | None] = Field(
        default_factory=dict,
        description="a score of at least this trips: by category, or by check:category; null: not judged",
    )
    action: Action | None = Field(
        default=None,
        description="what happens to what trips: block withholds it, blur makes it unrecognisable, flag reports it; "
        "none: block, but flag under research",
    )
    on_error: Literal["withhold", "allow"] = Field(
        default="withhold", description="what happens where a check fails; allow needs an override_reason"
    )
    override_reason: str = Field(
        default="", max_length=500, description="why failures may pass; written into every report"
    )
    timeout: float = Field(default=60.0, gt=0, le=3600, description="seconds that one check may take for one batch")
    words: Asset | None = Field(default=None, description="a file with more words for the block list")
    clip_checker: Asset | None = Field(
        default=None,
        description="a folder with the safety checker of Stable Diffusion 1 (config.json, model.safetensors)",
    )
    open_nsfw: Asset | None = Field(default=None, description="open-nsfw.onnx (see the README), read with onnxruntime")
    settings: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict, description="settings of checks of others, by the check's name"
    )
    early: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=0.5,
        description="part of the steps after which the predicted picture is judged; none: not before the end",
    )
    previews: Literal["coarse", "show", "off"] = Field(
        default="coarse",
        description="coarse: a few fields of colour until the early check has passed; show; off: none at all",
    )
    sld: SLD = Field(default="off", description="Safe Latent Diffusion (arXiv 2211.05105): draws away from the concept")
    sld_concept: str = Field(
        default="", max_length=2000, description="what SLD draws away from; empty: that of its authors"
    )
    projection: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how much of the unsafe subspace is taken out of words that lie in it; 0: off",
    )

    @field_validator("checks", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split("+")) if isinstance(value, str) else value

    @field_validator("checks")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or not all(value):
            raise ValueError(f"checks are {', '.join(map(repr, value))}; name each once")
        return value

    @model_validator(mode="after")
    def _reasoned(self) -> Safety:
        if self.on_error == "allow" and not self.override_reason.strip():
            raise ValueError("on_error='allow' lets pictures pass that nobody judged: give an override_reason")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The checks, with those that a path brings."""
        extra = [("clip-checker", self.clip_checker), ("open-nsfw", self.open_nsfw)]
        return (*self.checks, *(name for name, path in extra if path and name not in self.checks))

    def check_values(self, name: str) -> dict[str, Any]:
        """The settings of one check: its own, and the path that has an option here."""
        paths = {"blocklist": self.words, "clip-checker": self.clip_checker, "open-nsfw": self.open_nsfw}
        values = dict(self.settings.get(name, {}))
        if paths.get(name):
            values.setdefault("path", paths[name])
        return values

    @property
    def policy(self) -> Policy:
        """Thresholds and action, with those of the profile."""
        return Policy(self.profile, dict(self.thresholds), self.action or ACTIONS[self.profile])
