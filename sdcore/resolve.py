"""From what a user wrote to a complete request: options found, defaults filled in, pictures loaded."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .errors import ImageError, RequestError
from .families import family_of
from .host import PluginHost
from .latents import check_size
from .plugin import Options
from .request import GenerateRequest, Use, explain_validation

if TYPE_CHECKING:
    from .models import Model

Uses = tuple[tuple[str, Options | None], ...]


def as_request(request: GenerateRequest | str | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> GenerateRequest:
    """A request from a request, a prompt, a mapping or nothing, with some fields changed."""
    if isinstance(request, GenerateRequest):
        return request.replace(**fields) if fields else request
    if isinstance(request, Mapping):
        return GenerateRequest(**{**request, **fields})
    return GenerateRequest(**fields) if request is None else GenerateRequest(request, **fields)


def resolve_uses(host: PluginHost, use: Iterable[Any], always: Iterable[Any] = ()) -> Uses:
    """(plugin name, options) of every entry of ``use``, then of ``always``.

    Raises:
        PluginLoadError: a plugin is not installed, broken or disabled.
        RequestError: options that the plugin refuses, or that a policy has locked.
    """
    policy = [_one_use(host, item) for item in always]
    asked = [_one_use(host, item) for item in use]
    locked = {name for name, options in policy if options is not None and options.locked}
    for name, _ in asked:
        if name in locked:
            raise RequestError(
                f"plugin {name!r} is set by the application for every run; leave it out of `use`"
            )
    return (*asked, *policy)


def _one_use(host: PluginHost, item: Options | Use) -> tuple[str, Options | None]:
    if isinstance(item, Options):
        name = host.owner(item)
        host.plugin(name)
        return name, item
    plugin = host.plugin(item.plugin)
    if plugin.options is None:
        if item.options:
            raise RequestError(f"plugin {item.plugin!r} has no options, got {dict(item.options)}")
        return item.plugin, None
    try:
        return item.plugin, plugin.options.model_validate(dict(item.options))
    except ValidationError as error:
        raise RequestError(
            f"options of plugin {item.plugin!r}: {explain_validation(error)} (see: sdcore plugins info {item.plugin})"
        ) from None


def complete(request: GenerateRequest, model: Model, max_pixels: int) -> GenerateRequest:
    """The request with every default filled in, seeds drawn, the input picture loaded. Computes nothing.

    Raises:
        RequestError: a text that cannot be used, a size that the codec cannot make.
        ImageError: a picture that cannot be used.
    """
    family, defaults = family_of(model.family), model.defaults
    for name in ("prompt", "negative_prompt"):
        _check_text(name, getattr(request, name))
    fields: dict[str, Any] = {"seeds": _seeds(request), "seed": None, "count": 1}
    if request.scheduler is None and defaults.get("scheduler"):
        fields["scheduler"] = defaults["scheduler"]
    if request.timesteps is not None or request.sigmas is not None:
        fields["steps"] = len(request.timesteps or request.sigmas or ())
    elif request.steps is None:
        fields["steps"] = defaults.get("steps", family.steps)
    if request.guidance_scale is None:
        fields["guidance_scale"] = defaults.get("guidance_scale", family.guidance_scale)
    height, width = request.height, request.width
    native = _native_size(model)
    if request.image is not None:
        fields["image"], native = _image(request.image, model, max_pixels)
        if request.strength is None:
            fields["strength"] = defaults.get("strength", family.strength)
    fields["height"] = height or defaults.get("height", native[0])
    fields["width"] = width or defaults.get("width", native[1])
    if request.image is not None:
        fields["height"], fields["width"] = height or native[0], width or native[1]
    check_size(fields["height"], fields["width"], model.vae_scale_factor)
    current = {name: getattr(request, name) for name in request.model_fields_set} | fields
    # Built directly: every field was validated, and seeds take the place of seed and count.
    return request.model_copy(update=current | {"count": len(fields["seeds"])})


def _seeds(request: GenerateRequest) -> tuple[int, ...]:
    if request.seeds is not None:
        return request.seeds
    first = request.seed if request.seed is not None else secrets.randbelow(2**32)
    return tuple(range(first, first + request.count))


def _check_text(name: str, text: str | None) -> None:
    for place, char in enumerate(text or ""):
        kind = unicodedata.category(char)
        if (kind == "Cc" and char not in "\t\n\r") or kind == "Cs":
            raise RequestError(f"{name} has the control character U+{ord(char):04X} at position {place}; remove it")


def _native_size(model: Model) -> tuple[int, int]:
    sample: Any = getattr(model.unet.config, "sample_size", None) or 64
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * model.vae_scale_factor, width * model.vae_scale_factor


def _image(image: Any, model: Model, max_pixels: int) -> tuple[Any, tuple[int, int]]:
    """The input, loaded, and the size of the result that follows from it."""
    import torch

    from .images import load_image

    factor = model.vae_scale_factor
    if isinstance(image, torch.Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != model.latent_channels:
            raise ImageError(
                f"a tensor as image means latents (1 or count, {model.latent_channels}, height/{factor}, "
                f"width/{factor}); got {tuple(image.shape)}. Give pictures as a path, PIL image or bytes"
            )
        if not bool(image.isfinite().all()):
            raise ImageError("the latents given as image are not finite (NaN or infinity)")
        return image, (image.shape[-2] * factor, image.shape[-1] * factor)
    loaded = load_image(image, max_pixels=max_pixels)
    return loaded, (max(loaded.height // factor, 1) * factor, max(loaded.width // factor, 1) * factor)
