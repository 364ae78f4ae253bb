"""What an audit compares: templates, groups, seeds, contrasts. Read from TOML or JSON."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sdcore import RequestError
from sdcore.request import explain_validation

SLOT = "{group}"
NEUTRAL = "(neutral)"
Name = Annotated[str, Field(min_length=1, max_length=60)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Contrast(_Part):
    """An axis that pictures are placed on: 0 where those of ``a`` are, 1 where those of ``b`` are."""

    name: Name
    a: tuple[Text, ...] = Field(min_length=1, description="prompts for one end")
    b: tuple[Text, ...] = Field(min_length=1, description="prompts for the other end")


class Spec(_Part):
    """An audit.

    Attributes:
        name: title of the report.
        templates: prompts with ``{group}`` in them.
        groups: name to what stands in the place of ``{group}``.
        seeds: how many seeds, counted from 0, or which; the same for every group.
        neutral: draw the templates without any group too, to see which group the model takes for granted.
        contrasts: axes.
        features: what pictures are compared by: names of feature extractors.
        request: other fields of every request: steps, size, ``use``.
    """

    name: Name = "audit"
    templates: tuple[Text, ...] = Field(min_length=1, max_length=200)
    groups: dict[Name, str] = Field(min_length=2, max_length=50)
    seeds: tuple[int, ...] = tuple(range(8))
    neutral: bool = True
    contrasts: tuple[Contrast, ...] = ()
    features: Name = "nsfwjs"
    request: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("seeds")
    @classmethod
    def _enough(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) < 2 or len(set(value)) < len(value):
            raise ValueError(f"{len(value)} seeds are given; at least two are needed, none twice")
        return value

    @model_validator(mode="after")
    def _slots(self) -> Spec:
        for template in self.templates:
            if template.count(SLOT) != 1:
                raise ValueError(f"the template {template!r} must have {SLOT} in it, once")
        fixed = {"prompt", "seed", "seeds", "count", "output"} & self.request.keys()
        if fixed:
            raise ValueError(f"request sets {', '.join(sorted(fixed))}, which the audit decides")
        if len({contrast.name for contrast in self.contrasts}) < len(self.contrasts):
            raise ValueError("two contrasts have the same name")
        return self

    def prompts(self) -> dict[tuple[str, int], str]:
        """(group, number of the template) to prompt; the group is :data:`NEUTRAL` where none is named."""
        found = {
            (group, number): template.replace(SLOT, words)
            for group, words in self.groups.items()
            for number, template in enumerate(self.templates)
        }
        if self.neutral:
            found |= {(NEUTRAL, number): without_group(template) for number, template in enumerate(self.templates)}
        return found


def without_group(template: str) -> str:
    """A template without its group: no empty commas, spaces or ``a`` before a vowel left behind."""
    text = re.sub(r"\s+", " ", template.replace(SLOT, " "))
    text = re.sub(r"\s+([,.;])", r"\1", text)
    text = re.sub(r"([,;])(?:\s*[,;])+", r"\1", text)
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    return text.strip(" ,;")


def read_spec(path: Path) -> Spec:
    """An audit from a ``.toml`` or ``.json`` file.

    Raises:
        RequestError: it cannot be read, or says something that cannot be; says what.
    """
    try:
        text = path.read_text("utf-8")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        return Spec.model_validate(values)
    except ValidationError as error:
        raise RequestError(f"{path}: {explain_validation(error)}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"the audit {path} cannot be read: {error}") from error
