"""Checks of what a user writes and what a picture's record keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sdcore.plugin import Options

from .catalogue import check
from .outcome import Failed, NotApplicable
from .subject import Subject, Trial

REMEDY = "mark the option as a file: `path: Asset`, or `Annotated[Any, AssetMark()]`"


@check(13, "options", "its options are documented, survive JSON, and refuse what is wrong at once", scope="plugin")
def options(subject: Subject) -> None:
    """Frozen, described, a valid schema; JSON and back is the same; misspelt names and wrong types are refused."""
    kind = None if subject.factory is None else subject.factory.options
    if kind is None:
        raise NotApplicable("it has no options")
    silent = [name for name, field in kind.model_fields.items() if not field.description]
    if silent:
        raise Failed(f"no description of {', '.join(silent)}: write Field(..., description=...)")
    if not kind.model_config.get("frozen"):
        raise Failed(f"{kind.__qualname__} is not frozen; do not set model_config")
    try:
        json.dumps(kind.model_json_schema())
    except Exception as error:
        raise Failed(f"{kind.__qualname__} has no JSON schema: {error}") from error
    given = _given(subject)
    for values in given:
        _round_trip(kind, values)
        _refuses(kind, values)


def _given(subject: Subject) -> list[Mapping[str, Any]]:
    found = [trial.case.options for trial in subject.trials] if subject.draws else [{}]
    return list({repr(values): values for values in found}.values())


def _round_trip(kind: type[Options], values: Mapping[str, Any]) -> None:
    try:
        once = kind.model_validate(dict(values))
        text = once.model_dump_json()
        again = kind.model_validate_json(text)
    except Exception as error:
        raise Failed(f"{dict(values)} did not survive JSON: {type(error).__name__}: {error}") from error
    if again.model_dump_json() != text or again != once:
        raise Failed(f"{text} read back is {again.model_dump_json()}: a validator must not change what it has made")


def _refuses(kind: type[Options], values: Mapping[str, Any]) -> None:
    for name in kind.model_fields:
        wrong = f"{name}s" if f"{name}s" not in kind.model_fields else f"{name}zz"
        told = _refusal(kind, {**values, wrong: 1})
        if told is None:
            raise Failed(f"an option {wrong!r}, which there is not, was accepted")
        if name not in told:
            raise Failed(f"an option {wrong!r} was refused without naming {name!r}: {told}")
        break
    schema = kind.model_json_schema().get("properties", {})
    for name, about in schema.items():
        if about.get("type") in ("number", "integer") and _refusal(kind, {**values, name: float("nan")}) is None:
            raise Failed(f"{name}=NaN was accepted")
        if about.get("type") in ("number", "integer", "boolean") and _refusal(kind, {**values, name: [name]}) is None:
            raise Failed(f"{name}={[name]!r} was accepted, where a {about['type']} is needed")


def _refusal(kind: type[Options], values: Mapping[str, Any]) -> str | None:
    try:
        kind.model_validate(dict(values))
    except ValidationError as error:
        return str(error)
    return None


@check(
    14,
    "record",
    "the record of a picture makes the same picture again, and gives no path away",
    everywhere=False,
    tiers=("cpu", "weights"),
    needs=("same-seed", "options"),
)
def record(trial: Trial) -> None:
    """Saved, read and replayed on a fresh engine: the same pixels. No path of this machine is in the record."""
    from sdcore.picture_files import read_record
    from sdcore.replay import replay_picture

    if not trial.first.pictures:
        raise NotApplicable("the picture is withheld")
    picture = trial.first.pictures[0]
    data = picture.encode("png")
    found = read_record(data)
    named = [entry["plugin"] for entry in found.request.get("use", ())]
    options = trial.subject.factory.options if trial.subject.factory else None
    expected = [trial.name] if options is None or options.recorded else []
    if named != expected:
        raise Failed(f"the record names the plugins {named}, expected {expected}")
    for where, text in _texts({"request": found.request, "metadata": found.metadata}):
        if str(trial.setting.folder) in text or (text.startswith("/") and len(text) > 1 and Path(text).exists()):
            raise Failed(f"the record gives a path away: {where} is {text!r}; {REMEDY}")
    fresh = trial.subject.engine(trial.setting, by_name=True)
    files = [text for _, text in _texts({"options": trial.case.options, "request": trial.case.request})]
    replay = replay_picture(data, engine=fresh, allow=[trial.setting.folder, *filter(None, files)])
    if not replay.identical:
        raise Failed(f"replayed, the picture is another one: {'; '.join(replay.differences)}")


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str | Path):
        yield where, str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _texts(item, f"{where}[{place}]")
