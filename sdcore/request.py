"""GenerateRequest: everything that decides a result. Immutable, JSON in and out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from . import request_json
from .errors import RequestError
from .plugin import Options, nearest
from .uses import Use, parse_use, read_uses

MAX_PROMPT = 200_000
MAX_PICTURES = 10_000
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

_GIVES_WAY: Mapping[str, tuple[str, ...]] = {
    "seed": ("seeds",),
    "seeds": ("seed", "count"),
    "steps": ("timesteps", "sigmas"),
    "timesteps": ("steps", "sigmas"),
    "sigmas": ("steps", "timesteps"),
    "strength": ("denoising_start",),
    "denoising_start": ("strength",),
}
"""Fields that `replace` drops when it sets another one that says the same thing."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _text(value: Any) -> Any:
    found = _CONTROL.search(value) if isinstance(value, str) else None
    if found is not None:
        code = ord(found.group())
        what = "half of a surrogate pair" if code >= 0xD800 else "the control character"
        raise ValueError(f"it has {what} U+{code:04X} at position {found.start()}; remove it")
    return value


Text = Annotated[str, Field(max_length=MAX_PROMPT), BeforeValidator(_text)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, le=16_384)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Claim = Annotated[int, Field(ge=0, le=1_000_000)]
Pair = tuple[Claim, Claim]
Canvas = tuple[Annotated[int, Field(ge=1, le=65_536)], Annotated[int, Field(ge=1, le=65_536)]]
Window = tuple[Fraction, Fraction, Fraction, Fraction]
Timestep = Annotated[int, Field(ge=0, le=1_000_000)]
Sigma = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]


def _without_final_zero(sigmas: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """diffusers' users write the zero that every schedule ends with; here it is understood."""
    if sigmas is None or sigmas[-1] > 0:
        return sigmas
    if len(sigmas) == 1 or sigmas[-2] == 0:
        raise ValueError("only the last of several noise levels may be 0")
    return sigmas[:-1]


class GenerateRequest(BaseModel):
    """A request. Fields that are None take the default of the model or its family.

    ``request.replace(steps=30)`` gives a changed copy. Errors are RequestError and name the field, the value,
    and for a misspelt field the nearest name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    prompt: Text = Field(default="", description="what the picture shows")
    negative_prompt: Text | None = Field(default=None, description="what it should not show")
    seed: Seed | None = Field(
        default=None, description="seed of the first picture; None draws one, which the result names"
    )
    seeds: tuple[Seed, ...] | None = Field(
        default=None, min_length=1, max_length=MAX_PICTURES, description="one seed per picture, instead of seed"
    )
    count: int = Field(
        default=1, ge=1, le=MAX_PICTURES, description="number of pictures; seeds are seed, seed + 1, ..."
    )
    steps: int | None = Field(default=None, ge=1, le=10_000, description="denoising steps")
    scheduler: Text | None = Field(
        default=None, max_length=100, description="short name, such as euler-a or dpmpp-2m-karras"
    )
    guidance_scale: Number | None = Field(default=None, ge=0, le=1000, description="classifier-free guidance; 1 is off")
    guidance_rescale: Fraction = Field(default=0.0, description="phi of arXiv 2305.08891, section 3.4")
    height: Side | None = Field(default=None, description="pixels")
    width: Side | None = Field(default=None, description="pixels")
    image: Any = Field(
        default=None, description="input picture (path, PIL image, bytes, data URI) or latents (1 or count, c, h, w)"
    )
    strength: Fraction | None = Field(default=None, description="how much of the input picture to forget")
    clip_skip: int | None = Field(
        default=None, ge=0, le=24, description="layers of the text encoder to skip from the end"
    )
    eta: Fraction = Field(default=0.0, description="eta of DDIM (arXiv 2010.02502)")
    timesteps: tuple[Timestep, ...] | None = Field(
        default=None, min_length=1, max_length=10_000, description="training timesteps, falling"
    )
    sigmas: Annotated[tuple[Sigma, ...] | None, AfterValidator(_without_final_zero)] = Field(
        default=None, min_length=1, max_length=10_000, description="noise levels, falling; a final 0 may be left out"
    )
    denoising_start: Fraction | None = Field(default=None, description="fraction of the noise range to begin at")
    denoising_end: Fraction | None = Field(default=None, gt=0, description="fraction of the noise range to stop at")
    original_size: Pair | None = Field(
        default=None, description="SDXL: (height, width) the picture claims to come from"
    )
    window: Window | None = Field(
        default=None,
        description="(left, top, right, bottom) of the part of a whole picture that is drawn, as fractions of it",
    )
    canvas_size: Canvas | None = Field(
        default=None,
        description="(height, width) of the whole picture that leaves, where more than this run draws belongs to it",
    )
    crops_coords_top_left: Pair = Field(default=(0, 0), description="SDXL: (top, left) of the claimed crop")
    target_size: Pair | None = Field(default=None, description="SDXL: (height, width) it claims to be made for")
    negative_original_size: Pair | None = Field(default=None, description="SDXL: the same for the negative branch")
    negative_crops_coords_top_left: Pair | None = Field(
        default=None, description="SDXL: the same for the negative branch"
    )
    negative_target_size: Pair | None = Field(default=None, description="SDXL: the same for the negative branch")
    aesthetic_score: Score = Field(default=6.0, description="SDXL refiner")
    negative_aesthetic_score: Score = Field(default=2.5, description="SDXL refiner")
    long_prompt: Literal["chunk", "cut"] = Field(default="chunk", description="prompts beyond the encoder's window")
    batch_size: int | None = Field(
        default=None, ge=1, le=1024, description="pictures at a time; None fits it to memory"
    )
    output: Literal["image", "latent"] = Field(default="image", description="latent skips decoding")
    use: Annotated[tuple[Any, ...], BeforeValidator(read_uses)] = Field(
        default=(), description="plugins and their options"
    )

    def __init__(self, prompt: str | None = None, /, **fields: Any) -> None:
        if prompt is not None:
            if "prompt" in fields:
                raise RequestError("the prompt is given twice; keep one of them")
            fields["prompt"] = prompt
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RequestError(explain_validation(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields: dict[str, Any] = {}
        for key, value in data.items():
            name = ALIASES.get(key, key)
            if name not in cls.model_fields:
                shown = str(key)[:100]
                raise ValueError(f"there is no field {shown!r}.{nearest(shown, [*cls.model_fields, *ALIASES])}")
            if name in fields:
                raise ValueError(f"{name!r} is given twice, once as {key!r}; keep one of them")
            if isinstance(value, bool):  # pydantic takes True for 1
                raise ValueError(f"{name} is {value}; it is no switch, see the field's description")
            fields[name] = value
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> GenerateRequest:
        self._check_seeds()
        self._check_noise_levels()
        if self.window is not None:
            left, top, right, bottom = self.window
            if left >= right or top >= bottom:
                raise ValueError(f"window {self.window} is empty; it is (left, top, right, bottom), as fractions")
        if self.strength is not None and self.image is None:
            raise ValueError("strength is given, but no image; give an image, or leave strength out")
        if self.denoising_start is not None:
            if self.image is None:
                raise ValueError("denoising_start needs an image or latents to start from")
            if self.strength is not None:
                raise ValueError("strength and denoising_start both say where to begin; keep one of them")
            if self.denoising_end is not None and self.denoising_end <= self.denoising_start:
                raise ValueError(
                    f"denoising_end {self.denoising_end} must be above denoising_start {self.denoising_start}"
                )
        return self

    def _check_seeds(self) -> None:
        if self.seeds is not None:
            if self.seed is not None:
                raise ValueError("seed and seeds are both given; keep one of them")
            if "count" in self.model_fields_set and self.count != len(self.seeds):
                raise ValueError(f"count is {self.count}, but there are {len(self.seeds)} seeds; leave count out")
        elif self.seed is not None and self.seed + self.count > 2**63:
            raise ValueError(f"seed {self.seed} + count {self.count} passes 2**63; use a smaller seed")

    def _check_noise_levels(self) -> None:
        if self.timesteps is not None and self.sigmas is not None:
            raise ValueError("timesteps and sigmas are both given; keep one of them")
        for name, values in (("timesteps", self.timesteps), ("sigmas", self.sigmas)):
            if values is None:
                continue
            for place, (before, after) in enumerate(itertools.pairwise(values), start=1):
                if after >= before:
                    raise ValueError(f"{name} must fall strictly, but {after} follows {before} at position {place}")
            if self.steps is not None and self.steps != len(values):
                raise ValueError(f"steps is {self.steps}, but there are {len(values)} {name}; leave steps out")

    def replace(self, **fields: Any) -> GenerateRequest:
        """A copy with some fields changed, validated anew.

        A field that says the same thing as a changed one gives way: ``seed`` drops ``seeds``, ``timesteps``
        drops ``steps``, ``image=None`` drops ``strength``. So a finished ``result.request`` can be changed too.
        """
        current = {name: getattr(self, name) for name in self.model_fields_set}
        for key, value in fields.items():
            name = ALIASES.get(key, key)
            if value is not None or name == "seed":
                current = {other: kept for other, kept in current.items() if other not in _GIVES_WAY.get(name, ())}
            if name == "image" and value is None:
                current.pop("strength", None)
                current.pop("denoising_start", None)
            current.pop(name, None)
        return type(self)(**current, **fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> GenerateRequest:
        """Read a request as :meth:`to_json` or ``engine.to_json`` wrote it.

        Raises:
            RequestError: it is not JSON, or not a valid request.
        """
        return cls(**request_json.loads(text))

    def to_json(self, owner: Callable[[Options], str] | None = None) -> str:
        """This request as one line of JSON: every field that is not at its default.

        A picture in memory becomes a data URI; a path stays a path. Options objects need the name of their
        plugin, which an engine knows: ``engine.to_json(request)``.

        Args:
            owner: gives the plugin's name of options.

        Raises:
            RequestError: the request holds what JSON cannot: latents, or options whose plugin is not known.
        """
        return request_json.dumps(self.to_dict(owner))

    def to_dict(self, owner: Callable[[Options], str] | None = None) -> dict[str, Any]:
        """The same as JSON values."""
        data = self.model_dump(mode="json", exclude_defaults=True, exclude={"use", "image"})
        if self.image is not None:
            data["image"] = request_json.image_value(self.image)
        if self.use:
            data["use"] = [request_json.use_value(item, owner) for item in self.use]
        return data


def explain_validation(error: ValidationError) -> str:
    """A pydantic error as one line: field, what was wrong, the value."""
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        shown = repr(item["input"])
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        if item["type"] == "missing" and isinstance(item["input"], dict):
            message = "is needed, and was not given"
        elif item["type"] != "value_error":
            message += f", got {shown}"
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)


__all__ = ["ALIASES", "MAX_PROMPT", "GenerateRequest", "Use", "explain_validation", "parse_use"]
