"""Requests as JSON text: what a request's values become, and reading text that nobody vouches for."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic_core import PydanticSerializationError

from .errors import RequestError
from .plugin import Options
from .uses import Use


def dumps(data: dict[str, Any]) -> str:
    """One line of JSON."""
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RequestError(f"the request cannot be written as JSON: {error}") from None


def loads(text: str | bytes) -> dict[str, Any]:
    """The fields in a JSON object; RequestError if it is none, or has a key twice or NaN."""
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError, TypeError) as error:
        raise RequestError(f"the request is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f"a request is a JSON object in braces, got {type(data).__name__}")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON value")


def use_value(item: Options | Use, owner: Callable[[Options], str] | None) -> dict[str, Any]:
    """An entry of ``use`` as ``{"plugin": ..., "options": {...}}``; pictures in options become data URIs."""
    if isinstance(item, Use):
        name = item.plugin
    elif owner is not None:
        name = owner(item)
    else:
        kind = type(item).__qualname__
        raise RequestError(f"use: an engine knows which plugin {kind} belongs to; write engine.to_json(request)")
    try:
        values = item.model_dump(mode="json", fallback=image_value)
    except (PydanticSerializationError, RequestError) as error:
        raise RequestError(f"use: the options of plugin {name!r} cannot be written as JSON: {error}") from None
    return {"plugin": name, "options": values["options"] if isinstance(item, Use) else values}


def image_value(image: Any) -> str:
    """A picture as a path or a data URI."""
    if isinstance(image, str | os.PathLike):
        return str(os.fspath(image))
    if isinstance(image, bytes):
        return "data:application/octet-stream;base64," + base64.b64encode(image).decode()
    if hasattr(image, "shape"):
        raise RequestError(
            f"latents {tuple(image.shape)} cannot be written as JSON; set image to None, or to a picture"
        )
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise RequestError(f"image: a {type(image).__name__} cannot be written as JSON; give a path or a picture")
    written = io.BytesIO()
    try:
        image.save(written, "PNG")
    except (OSError, ValueError) as error:
        raise RequestError(f"image: the picture cannot be written as JSON ({error}); convert it to RGB") from None
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
