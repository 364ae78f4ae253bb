"""From what a user wrote to a complete request: options found, defaults filled in, pictures loaded."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .errors import ImageError, ModelError, RequestError
from .families import family_of
from .host import PluginHost
from .latents import check_size
from .plugin import Options, nearest
from .request import GenerateRequest, explain_validation
from .uses import Use

if TYPE_CHECKING:
    from torch import Tensor

    from .models import Model

Uses = tuple[tuple[str, Options | None], ...]
"""(plugin name, options) of every plugin in use."""

MODEL_DEFAULTS = (
    "scheduler",
    "steps",
    "guidance_scale",
    "strength",
    "height",
    "width",
    "negative_prompt",
    "clip_skip",
)
"""Fields for which a model may advise a value."""


def as_request(request: GenerateRequest | str | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> GenerateRequest:
    """A request from a request, a prompt, a mapping or nothing, with some fields changed."""
    if isinstance(request, Mapping):
        request = GenerateRequest(**{str(key): value for key, value in request.items()})
    if isinstance(request, GenerateRequest):
        return request.replace(**fields) if fields else request
    return GenerateRequest(**fields) if request is None else GenerateRequest(request, **fields)


def resolve_uses(host: PluginHost, use: Iterable[Any], policy: Uses = ()) -> Uses:
    """The plugins and options of every entry of ``use``, then those of the application's policy.

    Raises:
        PluginLoadError: a plugin is not installed, broken or disabled.
        RequestError: options that the plugin refuses, or that the policy has locked.
    """
    asked = [_one_use(host, item) for item in use]
    locked = {name for name, options in policy if options is not None and options.locked}
    for name, _ in asked:
        if name in locked:
            raise RequestError(f"plugin {name!r} is set by the application for every run; leave it out of `use`")
    return (*asked, *policy)


def _one_use(host: PluginHost, item: Options | Use) -> tuple[str, Options | None]:
    if isinstance(item, Options):
        name = host.owner(item)
        host.plugin(name)
        return name, item
    plugin = host.plugin(item.plugin)
    if plugin.options is None:
        if item.options:
            raise RequestError(f"plugin {item.plugin!r} has no options, got {', '.join(map(repr, item.options))}")
        return item.plugin, None
    try:
        return item.plugin, plugin.options.model_validate(dict(item.options))
    except ValidationError as error:
        raise RequestError(
            f"options of plugin {item.plugin!r}: {explain_validation(error)} (see: sdcore plugins info {item.plugin})"
        ) from None


def check_defaults(model: Model) -> None:
    """Refuse a model whose own defaults could not stand in a request.

    Raises:
        ModelError: naming the field.
    """
    for name, value in model.defaults.items():
        if name not in MODEL_DEFAULTS:
            hint = nearest(name, MODEL_DEFAULTS)
            raise ModelError(f"{model.source}: sdcore.json sets a default for {name!r}, which a model cannot.{hint}")
        try:
            GenerateRequest(**{"image": "" if name == "strength" else None, name: value})
        except RequestError as error:
            raise ModelError(f"{model.source}: the defaults in sdcore.json are damaged: {error}") from None


def complete(request: GenerateRequest, model: Model, max_pixels: int) -> GenerateRequest:
    """The request with every default filled in, seeds drawn, the input picture loaded. Computes nothing.

    Raises:
        RequestError: a size that the codec cannot make, or larger than ``max_pixels``.
        ImageError: a picture or latents that cannot be used.
    """
    seeds = _seeds(request)
    fields: dict[str, Any] = {"seeds": seeds, "seed": None, "count": len(seeds)}
    size = _native_size(model)
    advised = _advised(request, model)
    if request.image is not None:
        fields["image"], size = _input(request, model, len(seeds), max_pixels)
        advised = {name: value for name, value in advised.items() if name not in ("height", "width")}
    fields |= {"height": size[0], "width": size[1]} | advised
    if request.timesteps is not None or request.sigmas is not None:
        fields["steps"] = len(request.timesteps or request.sigmas or ())
    given = {name for name in type(request).model_fields if getattr(request, name) is not None}
    filled = {name: value for name, value in fields.items() if name not in given or name in ("image", "count")}
    # Not validated again: every field was, and seeds take the place of seed and count.
    full = request.model_copy(update={**filled, "seed": None})
    assert full.height is not None
    assert full.width is not None
    check_size(full.height, full.width, model.vae_scale_factor)
    # What leaves may be larger than what a run draws: a canvas that grows in rounds.
    for height, width in ((full.height, full.width), full.canvas_size or (1, 1)):
        if height * width > max_pixels:
            raise RequestError(
                f"{width}x{height} is {width * height:,} pixels, the limit is {max_pixels:,}; use a smaller size, or "
                "load the engine with a larger max_pixels"
            )
    return full


def _seeds(request: GenerateRequest) -> tuple[int, ...]:
    if request.seeds is not None:
        return request.seeds
    first = request.seed if request.seed is not None else secrets.randbelow(2**32)
    return tuple(range(first, first + request.count))


def _advised(request: GenerateRequest, model: Model) -> dict[str, Any]:
    """What the model, else its family, advises for fields that apply to this request."""
    family = family_of(model.family)
    advised = {"steps": family.steps, "guidance_scale": family.guidance_scale, "strength": family.strength}
    advised |= model.defaults
    if request.image is None or request.denoising_start is not None:
        del advised["strength"]
    return advised


def _native_size(model: Model) -> tuple[int, int]:
    sample: Any = getattr(model.unet.config, "sample_size", None) or 64
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * model.vae_scale_factor, width * model.vae_scale_factor


def _input(request: GenerateRequest, model: Model, count: int, max_pixels: int) -> tuple[Any, tuple[int, int]]:
    """The picture or latents to start from, and the size of the result that follows from it."""
    import torch

    from .images import load_image

    factor = model.vae_scale_factor
    if isinstance(request.image, torch.Tensor):
        latents = _latents(request.image, model, count)
        size = latents.shape[-2] * factor, latents.shape[-1] * factor
        asked = request.height or size[0], request.width or size[1]
        if asked != size:
            raise ImageError(
                f"the latents given as image are for {size[1]}x{size[0]}, the request says {asked[1]}x{asked[0]}; "
                "leave height and width out"
            )
        return latents, size
    loaded = load_image(request.image, max_pixels=max_pixels)
    return loaded, (max(loaded.height // factor, 1) * factor, max(loaded.width // factor, 1) * factor)


def _latents(given: Tensor, model: Model, count: int) -> Tensor:
    channels, factor = model.latent_channels, model.vae_scale_factor
    fits = given.ndim in (3, 4) and given.shape[-3] == channels and min(given.shape) > 0
    if not fits or (given.ndim == 4 and given.shape[0] not in (1, count)):
        rows = "1" if count == 1 else f"1 or {count}"
        raise ImageError(
            f"a tensor as image means latents ({rows}, {channels}, height/{factor}, width/{factor}); got "
            f"{tuple(given.shape)}. Give pictures as a path, PIL image or bytes"
        )
    if not given.is_floating_point() or given.is_meta or given.is_sparse:
        kind = "without values" if given.is_meta else "sparse" if given.is_sparse else str(given.dtype)
        raise ImageError(f"the latents given as image are {kind}; latents are dense floating point numbers")
    if not bool(given.isfinite().all()):
        raise ImageError("the latents given as image are not finite (NaN or infinity); make them again")
    return given.detach() if given.ndim == 4 else given.detach()[None]
