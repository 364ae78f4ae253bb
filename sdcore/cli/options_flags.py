"""The options of a plugin as flags of a command, made from the options class: the one place where both meet."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from sdcore.errors import RequestError
from sdcore.plugin import Options
from sdcore.request import explain_validation
from sdcore.uses import read_value

from .option_table import option_rows
from .request_flags import kinds_of

T = TypeVar("T", bound=Options)
_PREFIX = "option_"


def add_options_flags(
    parser: argparse.ArgumentParser,
    options: type[Options],
    *,
    skip: Collection[str] = (),
    spell: Mapping[str, str] | None = None,
) -> None:
    """Add a flag for every option: ``--only-masked``, ``--grow 4``. None of them has a default of its own.

    Args:
        parser: the parser of a command.
        options: the options class.
        skip: options without a flag, because the command takes them otherwise.
        spell: option name to another flag, where its own is taken: ``{"width": "canvas-width"}``.
    """
    group = parser.add_argument_group("options")
    for row in option_rows(options):
        name = row["option"]
        if name in skip:
            continue
        flag = "--" + (spell or {}).get(name, name).replace("_", "-")
        details = ", ".join(part for part in (row["range"], f"default {row['default']}") if part)
        about = f"{row['about']} ({details})".strip().replace("%", "%%")
        how = flag_of(options.model_fields[name].annotation, _metavar(row["type"]))
        group.add_argument(flag, dest=_PREFIX + name, default=argparse.SUPPRESS, help=about, **how)


def options_of(args: argparse.Namespace, options: type[T], **given: Any) -> T:
    """The options that a command line asks for; ``given`` are those that it took otherwise.

    Values are read as ``--use`` reads them, JSON where it is JSON, else text; but what is text by its type stays text,
    such as ``--token 123``.

    Raises:
        RequestError: an option is refused, or a required one is missing.
    """
    values = dict(given)
    for name, value in vars(args).items():
        if name.startswith(_PREFIX):
            option = name.removeprefix(_PREFIX)
            values[option] = read_flag(options.model_fields[option].annotation, value)
    try:
        return options(**values)
    except ValidationError as error:
        raise RequestError(explain_validation(error)) from None


def flag_of(kind: Any, metavar: str) -> dict[str, Any]:
    """What ``argparse`` is told of the flag for an option of a type: several texts are a flag given several times."""
    kinds = kinds_of(kind)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    return {"action": "append", "metavar": metavar} if _texts(kind) else {"metavar": metavar}


def read_flag(kind: Any, given: Any) -> Any:
    """The value of an option of a type, from what ``argparse`` made of its flag."""
    if isinstance(given, list):
        read = [read_value(text) for text in given]
        both = zip(given, read, strict=True)
        return [one for text, value in both for one in (value if isinstance(value, list) else [read_flag(str, text)])]
    if not isinstance(given, str):
        return given
    value = read_value(given)
    return given if kinds_of(kind) == {str} and not isinstance(value, str | None) else value


def _texts(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list) and set(get_args(kind)) <= {str, Ellipsis}


def _metavar(kind: str) -> str:
    if "|" in kind:
        return kind.replace(" | ", "|")
    return {"number": "X", "int": "N", "file": "FILE"}.get(kind, "VALUE")
