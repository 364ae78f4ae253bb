"""From the JSON of a stranger to a request: limits, permitted plugins, and files by reference only.

A file is written ``{"upload": "<sha256>"}`` or ``{"library": "<name>"}``; no text of a request is ever opened as a
path or fetched as an address. Which options name files is said by their JSON schema (``"format": "asset"``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import ValidationError

from sdcore import Engine, GenerateRequest, RequestError, Use

from .config import Policy
from .errors import ApiError

FIELDS = (
    *("prompt", "negative_prompt", "seed", "count", "steps", "scheduler", "guidance_scale", "guidance_rescale"),
    *("height", "width", "image", "strength", "clip_skip", "eta", "use"),
)
MAX_PROMPT = 4000
MAX_USES = 16
STEPS = 25
"""Where neither the request nor the model says how many."""

Find = Callable[[str, str], str]
"""(``"upload"`` or ``"library"``, its name) to a path or name for the engine; ApiError if there is none."""


class _File(str):
    """A text that this server put in the place of a reference."""


def accept(body: Mapping[str, Any], engine: Engine, policy: Policy, find: Find) -> dict[str, Any]:
    """What is stored of a request: complete enough that every attempt draws the same picture.

    Raises:
        ApiError: 422 for what cannot be carried out, 403 for what the policy does not allow.
    """
    for name in body:
        if name not in FIELDS:
            raise _wrong(f"there is no field {str(name)[:80]!r}; there are {', '.join(FIELDS)}")
    stored = {name: value for name, value in body.items() if value is not None}
    stored.setdefault("steps", min(int(engine.model.defaults.get("steps", STEPS)), policy.limits.steps))
    if "seed" not in stored:
        stored |= {"seed": secrets.randbelow(2**32), "drawn": True}
    request = build(stored, engine, policy, find)
    limits = policy.limits
    for what, value, limit in (
        ("steps", request.steps or 0, limits.steps),
        ("count", request.count, limits.count),
        ("width x height", (request.width or 8) * (request.height or 8), limits.pixels),
        ("the length of the prompt", len(request.prompt), MAX_PROMPT),
        ("the length of the negative prompt", len(request.negative_prompt or ""), MAX_PROMPT),
        ("the number of plugins", len(request.use), MAX_USES),
    ):
        if value > limit:
            raise ApiError(422, "over_limit", f"{what} is {value:,}, and at most {limit:,} is allowed here")
    return stored


def build(stored: Mapping[str, Any], engine: Engine, policy: Policy, find: Find) -> GenerateRequest:
    """The request of a stored body, with files in place of references.

    Raises:
        ApiError: as of :func:`accept`.
    """
    fields = {name: value for name, value in stored.items() if name != "drawn"}
    if "image" in fields:
        fields["image"] = _filled(fields["image"], find)
        if not isinstance(fields["image"], _File):
            raise _wrong('image is {"upload": "..."}, of a picture that was uploaded before')
    uses = fields.pop("use", [])
    if not isinstance(uses, list):
        raise _wrong(f"use is a list, got {type(uses).__name__}")
    try:
        return GenerateRequest(**fields, use=[_use(item, engine, policy, find) for item in uses])
    except RequestError as error:
        raise _wrong(str(error)) from None


def _use(item: Any, engine: Engine, policy: Policy, find: Find) -> Use:
    if not isinstance(item, dict) or not set(item) <= {"plugin", "options"} or not isinstance(item.get("plugin"), str):
        raise _wrong('an entry of use is {"plugin": "name", "options": {...}}')
    name, options = item["plugin"], item.get("options", {})
    if name not in policy.plugins:
        known = ", ".join(policy.plugins) or "none"
        raise ApiError(403, "plugin_not_allowed", f"plugin {name[:80]!r} is not yours to use; you may use: {known}")
    if not isinstance(options, dict):
        raise _wrong(f"{name}: options is an object, got {type(options).__name__}")
    for option in options:
        if option in policy.forbidden_options:
            raise ApiError(403, "option_not_allowed", f"{name}: {option} is set by the operator; leave it out")
    factory = engine.host.plugin(name).options
    schema = factory.model_json_schema() if factory else {}
    filled = {option: _filled(value, find) for option, value in options.items()}
    for option, value in filled.items():
        _check_texts(f"{name}: {option}", value, names_files(schema, schema.get("properties", {}).get(option, {})))
    try:
        if factory is not None:
            factory.model_validate(filled)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _wrong(f"{name}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from None
    return Use(plugin=name, options=filled)


def names_files(schema: Mapping[str, Any], part: Any) -> bool:
    """Whether a part of a JSON schema holds, at any depth, a field that names a file."""
    seen: set[str] = set()

    def look(node: Any) -> bool:
        if isinstance(node, Mapping):
            target = node.get("$ref")
            if isinstance(target, str) and target not in seen:
                seen.add(target)
                if look(schema.get("$defs", {}).get(target.rpartition("/")[2], {})):
                    return True
            return node.get("format") == "asset" or any(look(value) for value in node.values())
        return isinstance(node, list) and any(look(value) for value in node)

    return look(part)


def _filled(value: Any, find: Find) -> Any:
    """A JSON value with a :class:`_File` in place of every reference."""
    if isinstance(value, dict):
        if len(value) == 1 and (kind := next(iter(value))) in ("upload", "library"):
            if not isinstance(value[kind], str):
                raise _wrong(f"{kind} is a text, got {type(value[kind]).__name__}")
            return _File(find(kind, value[kind]))
        return {key: _filled(item, find) for key, item in value.items()}
    return [_filled(item, find) for item in value] if isinstance(value, list) else value


def _check_texts(where: str, value: Any, files: bool) -> None:
    """Refuse texts where a file is meant, and, in case a plugin forgot to say so, texts that look like one."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_texts(where, key, False)
            _check_texts(where, item, files)
    elif isinstance(value, list):
        for item in value:
            _check_texts(where, item, files)
    elif isinstance(value, str) and not isinstance(value, _File) and (files or _like_a_path(value)):
        raise ApiError(
            403,
            "path_not_allowed",
            f'{where}: files are given as {{"upload": "..."}} or {{"library": "..."}}, never as a path or an address',
        )


def _like_a_path(text: str) -> bool:
    start = text.lstrip().lower()
    return (
        PurePosixPath(start).is_absolute()
        or PureWindowsPath(start).drive != ""
        or start.startswith(("~", "\\", "env:", "data:"))
        or "://" in start
        or ".." in start.replace("\\", "/").split("/")
    )


def _wrong(message: str) -> ApiError:
    return ApiError(422, "invalid_request", message)
