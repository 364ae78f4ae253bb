"""The record: everything needed to make the same picture again. It travels inside the picture.

A record that was read is untrusted input. Reading one opens no path, its size and depth are limited, and
the assets in it are names and hashes, never paths. The digest tells that a record was changed by mistake or
by a tool; it is no signature, because whoever changes a record on purpose can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import RecordError

SCHEMA_VERSION = 1
MAX_BYTES = 4 * 1024 * 1024

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=4096)]
FileName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRecord(_Part):
    """The model that made a picture: its family, where it came from, SHA-256 of every component.

    ``scheduler`` holds the settings that it gives its scheduler, the prediction type among them. Of an absolute
    path only the last part is kept as ``source``: the picture may be published.
    """

    family: Line
    source: Line
    components: dict[str, Sha256]
    scheduler: dict[str, Any] = {}

    @field_validator("scheduler")
    @classmethod
    def _plain_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _json_copy(value)

    @field_validator("source")
    @classmethod
    def _no_private_path(cls, value: str) -> str:
        absolute = value.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[\\/]", value)
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if absolute else value


class AssetRecord(_Part):
    """A file that the request named, as base name, SHA-256 and size in bytes."""

    name: FileName
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class Record(_Part):
    """Everything needed to make a picture again; immutable, and JSON throughout.

    Attributes:
        schema_version: the version of this layout.
        software: name to version, of sdcore, the libraries that compute, and every plugin used; for a plugin that
            is a class without a package, ``"plugin NAME"`` to the hash of its file.
        model: the model.
        request: the request as JSON, every file replaced by ``{"asset": name, "sha256": hex}``.
        changes: fields to which plugins gave other values for the run; a replay lets them do it again.
        assets: the files that the request named.
        seed: the seed of this picture.
        index: its place in the result, counted from 0.
        batch: the seeds denoised together with it, its own among them, in order.
        device: the device, such as ``"cpu"``.
        dtype: such as ``"float32"``.
        threads: intra-op threads of torch.
        platform: what computed: system, machine, vector instructions or GPU.
        plan: the compiled plan, lines of ``"port: plugin"`` in the order in which they ran.
        metadata: what plugins added, each under its own name. A plugin's ``"parameters"`` in it, a dict of
            texts or numbers, is appended to the text that other tools read.
        pixels_sha256: :func:`sdcore.images.image_sha256` of the picture.
    """

    schema_version: Literal[1] = 1
    software: dict[Line, Line]
    model: ModelRecord
    request: dict[str, Any]
    changes: dict[str, Any] = {}
    assets: tuple[AssetRecord, ...] = ()
    seed: Seed
    index: Annotated[int, Field(ge=0)] = 0
    batch: tuple[Seed, ...] = ()
    device: Line
    dtype: Line
    threads: Annotated[int, Field(ge=1)]
    platform: Line = ""
    plan: tuple[Line, ...] = ()
    metadata: dict[str, dict[str, Any]] = {}
    pixels_sha256: Sha256

    @field_validator("request", "changes", "metadata")
    @classmethod
    def _plain_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _json_copy(value)

    def to_json(self) -> str:
        """This record as one line of ASCII JSON with sorted keys, and its ``digest``."""
        body = self.model_dump(mode="json")
        return _canonical({**body, "digest": _digest(_canonical(body))})

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Read what :meth:`to_json` wrote.

        Raises:
            RecordError: malformed, larger than 4 MiB, of a newer schema, or changed after it was written.
        """
        if len(text) > MAX_BYTES:
            raise RecordError(f"the record has {len(text):,} bytes; at most {MAX_BYTES:,} are read")
        try:
            body = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
            if not isinstance(body, dict):
                raise ValueError(f"a {type(body).__name__} where an object is needed")
            _check_version(body)
            digest = body.pop("digest", None)
            canonical = _canonical(body)
        except RecordError:
            raise
        except (ValueError, RecursionError) as error:
            raise RecordError(f"the record is malformed: {str(error)[:200]}") from error
        if digest != _digest(canonical):
            raise RecordError(
                "the record was changed after it was written: its digest is "
                + (f"{shown(digest)}, which its contents do not give" if digest else "missing")
                + ". Take the picture as it was first saved"
            )
        try:
            record = cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = shown(".".join(map(str, first["loc"])))
            raise RecordError(f"the record is malformed: {where}: {first['msg'][:200]}") from None
        # Not pydantic's strict mode: its JSON reader refuses the lone surrogates that a prompt may hold.
        if _canonical(record.model_dump(mode="json")) != canonical:
            raise RecordError("the record is malformed: a field is missing, or of another type than it should be")
        return record


def shown(value: object) -> str:
    """A value out of a record for a terminal: without control characters, and cut to 80 characters."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[:80])
    return text + "..." if len(str(value)) > 80 else text


def _json_copy(value: dict[str, Any]) -> dict[str, Any]:
    # Through text and back: a copy that nobody else holds, equal to what a reader gets.
    try:
        return dict(json.loads(_canonical(value)))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _canonical(value: object) -> str:
    # ASCII, so that no tool that re-encodes text changes it, and lone surrogates in a prompt survive.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check_version(body: dict[str, Any]) -> None:
    version = body.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"schema_version is {shown(version)}")
    if version > SCHEMA_VERSION:
        software = body.get("software")
        maker = software.get("sdcore") if isinstance(software, dict) else None
        raise RecordError(
            f"the record has schema {version}, written by sdcore {shown(maker or 'of a later version')}; "
            f"schema {SCHEMA_VERSION} is the newest known here: upgrade sdcore"
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON value")
