"""Preprocessors from Python: by name, with options as keywords."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sdcore import Options, RequestError
from sdcore.plugin import nearest
from sdcore.preprocessing import Preprocessor
from sdcore.request import explain_validation

from .catalogue import ALIASES, canonical, preprocessors

if TYPE_CHECKING:
    from PIL.Image import Image


def preprocess_image(
    name: str,
    image: str | Path | bytes | Image,
    options: Options | Mapping[str, Any] | None = None,
    **fields: Any,
) -> Image:
    """Make of a picture what a control wants to see.

    Args:
        name: a preprocessor of this package, such as ``"canny"``, or its name elsewhere, such as ``"openpose"``.
        image: a path, the bytes of a file, a ``data:`` URI or a picture of Pillow, which is left as it was.
        options: its options, or a mapping of them; or give them as keywords: ``low=50``.

    Returns:
        An RGB picture of the same size.

    Raises:
        RequestError: there is no such preprocessor or option, or a value is out of range; ImageError, where
            the picture cannot be read; ModelError, where weights are missing or damaged.
    """
    from sdcore.images import load_image

    chosen = find(name, preprocessors())
    if not isinstance(options, Options):
        options = options_for(chosen, {**(options or {}), **fields})
    elif fields:
        raise RequestError(f"preprocessor {chosen.name!r} got options and {', '.join(fields)}: give one or the other")
    elif type(options) is not chosen.options:
        raise RequestError(f"preprocessor {chosen.name!r} got options of the class {type(options).__name__}")
    return chosen.run(load_image(image), options)


def find(name: str, known: Mapping[str, Preprocessor]) -> Preprocessor:
    """A preprocessor by its name, or by its name elsewhere; RequestError with the nearest name if there is none."""
    found = known.get(name) or known.get(canonical(name))
    if found is None:
        raise RequestError(f"there is no preprocessor {name!r}.{nearest(canonical(name), [*known, *ALIASES])}")
    return found


def options_for(preprocessor: Preprocessor, fields: Mapping[str, Any]) -> Options | None:
    """The options of a preprocessor made from values; RequestError that says what is wrong with them."""
    name, kind = preprocessor.name, preprocessor.options
    if kind is None:
        if fields:
            raise RequestError(f"preprocessor {name!r} has no options, got {', '.join(map(repr, fields))}")
        return None
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise RequestError(f"options of preprocessor {name!r}: {explain_validation(error)}") from None
