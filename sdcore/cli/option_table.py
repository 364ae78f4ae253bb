"""The options of a plugin as a table: field, type, default, range, description."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sdcore.plugin import AssetMark, Options

_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}", "multiple_of": "multiple of {}"}
_LENGTHS = {"min_length": "length >= {}", "max_length": "length <= {}"}


def option_rows(options: type[Options]) -> list[dict[str, str]]:
    """One row per option, every value as text."""
    return [
        {
            "option": name,
            "type": _type(field.annotation, field.metadata),
            "default": _default(field),
            "range": _range(field.metadata),
            "about": field.description or "",
        }
        for name, field in options.model_fields.items()
    ]


def _type(annotation: Any, marks: Any = ()) -> str:
    if any(isinstance(mark, AssetMark) for mark in marks):
        return "file"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], args[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is not None:
        return f"{origin.__name__} of {', '.join(_type(arg) for arg in args if arg is not Ellipsis)}"
    return {str: "text", float: "number", bool: "true or false"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.default is PydanticUndefined:
        return "computed"
    return "none" if field.default is None else str(field.default)


def _range(marks: Any) -> str:
    found = []
    for name, text in {**_BOUNDS, **_LENGTHS}.items():
        found += [text.format(value) for mark in marks if (value := getattr(mark, name, None)) is not None]
    return ", ".join(found)
