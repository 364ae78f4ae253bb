"""GenerateRequest: everything that decides a result. Immutable, JSON in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from .errors import RequestError
from .plugin import Options, nearest

MAX_PROMPT = 200_000
ALIASES = {
    "num_inference_steps": "steps",
    "num_images_per_prompt": "count",
    "batch_count": "count",
    "cfg_scale": "guidance_scale",
    "cfg": "guidance_scale",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "init_image": "image",
    "denoising_strength": "strength",
    "output_type": "output",
}
"""Spellings of diffusers and AUTOMATIC1111 that are accepted for a field."""


class Use(BaseModel):
    """One entry of ``use``: a plugin and its options, as JSON has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plugin: str
    options: Mapping[str, Any] = Field(default_factory=dict)


def _use(value: Any) -> Any:
    if isinstance(value, (str, Mapping, Options, Use)):
        value = [value]
    if not isinstance(value, Sequence):
        raise ValueError(f"use must be a list of options, got {type(value).__name__}")
    return tuple(_one_use(item) for item in value)


def _one_use(item: Any) -> Options | Use:
    if isinstance(item, Options | Use):
        return item
    if isinstance(item, str):
        return parse_use(item)
    if isinstance(item, Mapping):
        try:
            return Use.model_validate(dict(item))
        except ValidationError:
            raise ValueError(
                f'an entry of use must look like {{"plugin": "lora", "options": {{...}}}}, got {dict(item)!r}'
            ) from None
    raise ValueError(f"an entry of use must be options, a string or a mapping, got {type(item).__name__}")


def parse_use(text: str) -> Use:
    """``"lora:path=style.safetensors,weight=0.8"`` as a :class:`Use`.

    Values are read as JSON where they are JSON (numbers, true, lists in brackets), else as text. Commas
    inside brackets, braces or double quotes do not split.
    """
    import json

    name, _, rest = text.partition(":")
    if not name.strip():
        raise ValueError(f"{text!r} names no plugin; write it as name:option=value,option=value")
    options: dict[str, Any] = {}
    for part in _split(rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} in {text!r} has no '='; write it as name:option=value,option=value")
        try:
            options[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            options[key.strip()] = value
    return Use(plugin=name.strip(), options=options)


def _split(text: str) -> list[str]:
    parts, depth, quoted, current = [], 0, False, ""
    for char in text:
        if char == '"':
            quoted = not quoted
        elif not quoted and char in "[{":
            depth += 1
        elif not quoted and char in "]}":
            depth -= 1
        if char == "," and depth == 0 and not quoted:
            parts.append(current)
            current = ""
        else:
            current += char
    return [part for part in [*parts, current] if part.strip()]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


Number = Annotated[float, BeforeValidator(lambda v: _finite(v) if isinstance(v, float) else v)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Pair = tuple[int, int]


def _image_json(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else str(value) if hasattr(value, "__fspath__") else None


class GenerateRequest(BaseModel):
    """A request. Fields that are None take the default of the model or its family.

    ``request.replace(steps=30)`` gives a changed copy. Errors are RequestError and name the field, the value,
    and for a misspelt field the nearest name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    prompt: str = Field("", max_length=MAX_PROMPT, description="what the picture shows")
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT, description="what it should not show")
    seed: Seed | None = Field(None, description="seed of the first picture; None draws one, which the result names")
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="one seed per picture, instead of seed")
    count: int = Field(1, ge=1, le=10_000, description="number of pictures; seeds are seed, seed + 1, ...")
    steps: int | None = Field(None, ge=1, le=10_000, description="denoising steps")
    scheduler: str | None = Field(None, description="short name, such as euler-a or dpmpp-2m-karras")
    guidance_scale: Number | None = Field(None, ge=0, le=1000, description="classifier-free guidance; 1 is off")
    guidance_rescale: Number = Field(0.0, ge=0, le=1, description="phi of arXiv 2305.08891, section 3.4")
    height: int | None = Field(None, ge=8, le=16_384, description="pixels")
    width: int | None = Field(None, ge=8, le=16_384, description="pixels")
    image: Annotated[Any, PlainSerializer(_image_json)] = Field(
        None, description="input picture (path, PIL image, bytes, data URI) or latents (1 or count, c, h, w)"
    )
    strength: Number | None = Field(None, ge=0, le=1, description="how much of the input picture to forget")
    clip_skip: int | None = Field(None, ge=0, le=24, description="layers of the text encoder to skip from the end")
    eta: Number = Field(0.0, ge=0, le=1, description="eta of DDIM (arXiv 2010.02502)")
    timesteps: tuple[int, ...] | None = Field(None, min_length=1, description="training timesteps, falling")
    sigmas: tuple[Number, ...] | None = Field(None, min_length=1, description="noise levels, falling, without 0")
    denoising_start: Number | None = Field(None, ge=0, le=1, description="fraction of the noise range to begin at")
    denoising_end: Number | None = Field(None, ge=0, le=1, description="fraction of the noise range to stop at")
    original_size: Pair | None = Field(None, description="SDXL: (height, width) the picture claims to come from")
    crops_coords_top_left: Pair = Field((0, 0), description="SDXL: (top, left) of the claimed crop")
    target_size: Pair | None = Field(None, description="SDXL: (height, width) it claims to be made for")
    negative_original_size: Pair | None = Field(None, description="SDXL: the same for the negative branch")
    negative_crops_coords_top_left: Pair | None = Field(None, description="SDXL: the same for the negative branch")
    negative_target_size: Pair | None = Field(None, description="SDXL: the same for the negative branch")
    aesthetic_score: Number = Field(6.0, description="SDXL refiner")
    negative_aesthetic_score: Number = Field(2.5, description="SDXL refiner")
    long_prompt: Literal["chunk", "cut"] = Field("chunk", description="prompts beyond the encoder's window")
    batch_size: int | None = Field(None, ge=1, le=1024, description="pictures at a time; None fits it to memory")
    output: Literal["image", "latent"] = Field("image", description="latent skips decoding")
    use: Annotated[tuple[Any, ...], BeforeValidator(_use)] = Field((), description="plugins and their options")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields: dict[str, Any] = {}
        for key, value in data.items():
            name = ALIASES.get(key, key)
            if name not in cls.model_fields:
                raise ValueError(f"there is no field {key!r}.{nearest(str(key), [*cls.model_fields, *ALIASES])}")
            if name in fields:
                raise ValueError(f"{name!r} is given twice, once as {key!r}; keep one of them")
            fields[name] = value
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> GenerateRequest:
        if self.seeds is not None:
            if self.seed is not None:
                raise ValueError("seed and seeds are both given; keep one of them")
            if "count" in self.model_fields_set and self.count != len(self.seeds):
                raise ValueError(f"count is {self.count}, but there are {len(self.seeds)} seeds; leave count out")
        elif self.seed is not None and self.seed + self.count > 2**63:
            raise ValueError(f"seed {self.seed} + count {self.count} passes 2**63; use a smaller seed")
        if self.timesteps is not None and self.sigmas is not None:
            raise ValueError("timesteps and sigmas are both given; keep one of them")
        for name in ("timesteps", "sigmas"):
            values: Any = getattr(self, name)
            if values is not None:
                if any(b >= a for a, b in zip(values, values[1:], strict=False)) or values[-1] < 0:
                    raise ValueError(f"{name} must fall strictly and not be negative, got {values}")
                if self.steps is not None and self.steps != len(values):
                    raise ValueError(f"steps is {self.steps}, but there are {len(values)} {name}; leave steps out")
        if self.strength is not None and self.image is None:
            raise ValueError("strength is given, but no image; give an image, or leave strength out")
        if self.denoising_start is not None:
            if self.image is None:
                raise ValueError("denoising_start needs an image or latents to start from")
            if self.denoising_end is not None and self.denoising_end <= self.denoising_start:
                raise ValueError(
                    f"denoising_end {self.denoising_end} must be above denoising_start {self.denoising_start}"
                )
        return self

    def __init__(self, prompt: str | None = None, /, **fields: Any) -> None:
        if prompt is not None:
            if "prompt" in fields:
                raise RequestError("the prompt is given twice")
            fields["prompt"] = prompt
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RequestError(_sentence(error)) from None

    @classmethod
    def from_json(cls, text: str) -> GenerateRequest:
        """Read a request as ``to_json`` wrote it."""
        import json

        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RequestError(f"the request is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise RequestError(f"a request is a JSON object, got {type(data).__name__}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of every field that is not at its default; ``use`` as plugin and options.

        Options objects need their plugin's name, which the engine knows: ``engine.request_dict(request)``.
        """
        data = self.model_dump(mode="json", exclude_defaults=True, exclude={"use"})
        if self.use:
            data["use"] = [item.model_dump(mode="json") if isinstance(item, Use) else item for item in self.use]
        return data

    def replace(self, **fields: Any) -> GenerateRequest:
        """A copy with some fields changed, validated anew."""
        current = {name: getattr(self, name) for name in self.model_fields_set}
        current.update({ALIASES.get(key, key): value for key, value in fields.items()})
        return type(self)(**current)


def _sentence(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        shown = repr(item["input"])
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        if item["type"] != "value_error":
            message += f", got {shown}"
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)


def explain_validation(error: ValidationError) -> str:
    """A pydantic error as one line: field, what was wrong, the value."""
    return _sentence(error)
