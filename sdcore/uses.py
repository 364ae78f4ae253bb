"""Entries of ``use``: a plugin and its options, as an object, a mapping or a line of text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .plugin import Options

FORM = "write it as name:option=value,option=value"
FORM_OF_MAPPING = 'an entry must look like {"plugin": "lora", "options": {...}}'


class Use(BaseModel):
    """One entry of ``use``: a plugin and its options, as JSON has them."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    plugin: str = Field(min_length=1, max_length=100)
    options: Mapping[str, Any] = Field(default_factory=dict)


def read_uses(value: Any) -> tuple[Options | Use, ...]:
    """What a user gave as ``use`` (one entry or a list of them) as a tuple.

    Raises:
        ValueError: an entry is none of options, a mapping with ``plugin`` and ``options``, a line of text.
    """
    if isinstance(value, (str, Mapping, Options, Use)):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"a list of options is needed, got {type(value).__name__}")
    return tuple(_read_use(item) for item in value)


def _read_use(item: Any) -> Options | Use:
    if isinstance(item, Options | Use):
        return item
    if isinstance(item, str):
        return parse_use(item)
    if isinstance(item, type) and issubclass(item, Options):
        raise ValueError(f"{item.__qualname__} is the class; give options made from it: {item.__qualname__}(...)")
    if not isinstance(item, Mapping):
        raise ValueError(f"an entry must be options, a text or a mapping, got {type(item).__name__}")
    try:
        return Use.model_validate(dict(item))
    except ValidationError:
        raise ValueError(f"{FORM_OF_MAPPING}, got {_shown(dict(item))}") from None


def parse_use(text: str) -> Use:
    """``"lora:path=style.safetensors,weight=0.8"`` as a :class:`Use`.

    A value is read as JSON where it is JSON up to the next comma (numbers, true, text in double quotes, lists,
    objects), else it is the text up to the next comma.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise ValueError(f"{_shown(text)} names no plugin; {FORM}")
    options: dict[str, Any] = {}
    while rest:
        key, equals, after = rest.partition("=")
        key = key.strip()
        if not equals or not key or "," in key:
            raise ValueError(f"{_shown(rest.partition(',')[0])} in {_shown(text)} has no name and '='; {FORM}")
        if key in options:
            raise ValueError(f"option {key!r} is given twice in {_shown(text)}; keep one of them")
        options[key], rest = _value(after)
    try:
        return Use(plugin=name.strip(), options=options)
    except ValidationError:
        raise ValueError(f"{_shown(name)} is no name of a plugin; {FORM}") from None


def read_value(text: str) -> Any:
    """One value as users write it: JSON where the text is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _value(text: str) -> tuple[Any, str]:
    """The value that a text begins with, and what follows the comma after it."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        rest = text[end:].lstrip()
        if rest[:1] in ("", ","):
            return value, rest[1:]
    except (ValueError, RecursionError):
        pass
    value, _, rest = text.partition(",")
    return value, rest
