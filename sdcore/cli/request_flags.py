"""The fields of a request as flags, made from the model of the request: the one place where both meet."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sdcore.errors import RequestError
from sdcore.request import ALIASES, GenerateRequest
from sdcore.uses import read_uses

_NOT_FLAGS = ("prompt", "use")
_PREFIX = "field_"


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """Add the prompt, ``--request``, ``--use`` and a flag for every other field, with its aliases."""
    parser.add_argument("prompt", nargs="?", default=None, metavar="PROMPT", help="what the picture shows")
    group = parser.add_argument_group("request")
    for name, field in GenerateRequest.model_fields.items():
        if name in _NOT_FLAGS:
            continue
        spellings = [name, *(alias for alias, target in ALIASES.items() if target == name)]
        group.add_argument(
            *(f"--{spelling.replace('_', '-')}" for spelling in spellings),
            dest=_PREFIX + name,
            metavar=_metavar(name, field.annotation),
            default=argparse.SUPPRESS,
            help=(field.description or "").replace("%", "%%"),
        )
    group.add_argument(
        "--use",
        action="append",
        default=[],
        metavar="PLUGIN[:OPTION=VALUE,...]",
        help="use a plugin; several --use act in this order (see sdcore plugins info PLUGIN)",
    )
    group.add_argument("--request", metavar="FILE", help="a request as JSON, - for stdin; flags win over it")


def request_of(args: argparse.Namespace, **given: Any) -> GenerateRequest:
    """The request that a command line asks for.

    Args:
        args: of a parser with the flags of a request.
        given: fields that the command took otherwise; they win over flags of the same name.

    Raises:
        RequestError: a field is refused; ImageError, where latents cannot be read.
    """
    flags = {
        name.removeprefix(_PREFIX): _value(GenerateRequest.model_fields[name.removeprefix(_PREFIX)].annotation, text)
        for name, text in vars(args).items()
        if name.startswith(_PREFIX)
    }
    if args.prompt is not None:
        flags["prompt"] = args.prompt
    flags |= given
    if str(flags.get("image", "")).endswith(".safetensors"):
        from sdcore.latent_files import read_latents

        flags["image"] = read_latents(flags["image"])
    if not args.request:
        return GenerateRequest(**flags, use=args.use)
    request = _read(args.request)
    return request.replace(**flags, use=(*request.use, *read_uses(args.use)))


def _read(file: str) -> GenerateRequest:
    try:
        return GenerateRequest.from_json(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the request {file} cannot be read: {error}") from error


def _value(annotation: Any, text: str) -> Any:
    kinds = kinds_of(annotation)
    if tuple in kinds:
        return [_number(part) for part in text.replace("x", ",").split(",") if part.strip()]
    return _number(text) if {int, float} & kinds else text


def _number(text: str) -> Any:
    """A number where it is one; else the text, about which the request says what is wrong."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def kinds_of(annotation: Any) -> set[Any]:
    """The plain types in an annotation: {int} for ``Annotated[int, ...] | None``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return set().union(*(kinds_of(arg) for arg in args)) - {type(None)}
    if origin is Annotated:
        return kinds_of(args[0])
    return {origin or annotation}


def _metavar(name: str, annotation: Any) -> str:
    kinds = kinds_of(annotation)
    if Literal in kinds:
        return "|".join(get_args(next(kind for kind in _members(annotation) if get_origin(kind) is Literal)))
    if tuple in kinds:
        return "H,W" if name.endswith("size") else "TOP,LEFT" if "crop" in name else "N,N,..."
    if name == "image":
        return "FILE"
    return "N" if int in kinds else "X" if float in kinds else "TEXT"


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
