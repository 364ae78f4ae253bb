"""Signing pictures that exist already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sdcore import RecordError, RequestError
from sdcore.images import image_sha256
from sdcore.picture_files import find_record
from sdcore.verifying import Subject
from sdcore.verifying.subject import read_subject

from .options import Credentials
from .signers import Signer, find_signer
from .signing import MIME_TYPES, PARENT, Parent, Signed, sign


def sign_file(
    source: str | os.PathLike[str] | bytes, options: Credentials, registry: Mapping[str, Any] | None = None
) -> bytes:
    """A picture that exists, signed. No pixel and no other part of the file is changed.

    A PNG whose record fits its pixels, and which started from text, is signed as what it is: drawn by a model. Of any
    other the manifest says only that it was opened, and keeps what credentials it had: where it comes from is not
    known here.

    Args:
        source: PNG, JPEG or WebP, a path or the bytes of a file.
        options: who signs, and what the manifest says. ``store``, ``record`` and what is about runs do not apply.
        registry: name to signer, as in an engine's registry.

    Returns:
        The bytes of the signed file.

    Raises:
        ImageError: it is no picture. RequestError: the signer cannot be used. OutputError: it could not be signed.
    """
    return sign_subject(read_subject(source), options, checked_signer(options, registry or {})).data


def checked_signer(options: Credentials, registry: Mapping[str, Any]) -> Signer:
    """The signer of options, of which nothing is known to be wrong.

    Raises:
        RequestError: there is something; says what.
    """
    signer = find_signer(options, registry)
    problems = signer.check()
    if problems:
        raise RequestError("; ".join(problems))
    return signer


def sign_subject(subject: Subject, options: Credentials, signer: Signer) -> Signed:
    """As :func:`sign_file`, for a picture that was read and a signer that was checked."""
    if subject.format not in MIME_TYPES:
        raise RequestError(f"{subject.name} is a {subject.format or 'file'}: only {', '.join(MIME_TYPES)} are signed")
    made, parent = _definition(subject, options)
    url, policy = options.timestamp_url, options.timestamp
    return sign(subject.data, subject.mime_type, made, signer, parent, url, policy)


def _definition(subject: Subject, options: Credentials) -> tuple[dict[str, Any], Parent | None]:
    from .manifest import TRAINING, definition
    from .plugin import agents

    try:
        record = find_record(subject.data)
    except RecordError:
        record = None  # changed or damaged: nothing is said of it
    drawn = record is not None and subject.format == "png" and image_sha256(subject.image) == record.pixels_sha256
    if drawn and record is not None and not record.request.get("image") and b"caBX" not in subject.data:
        made = definition(
            record.model_dump(mode="json"),
            record.to_json(),
            agents=agents(record.software),
            prompt=options.prompt,
            training=options.training,
            title=options.title,
        )
        return made, None
    opened = {"action": "c2pa.opened", "softwareAgentIndex": 0, "parameters": {"ingredientIds": [PARENT]}}
    software = [{"name": name, "version": version} for name, version in agents({"sdcore": _version()}).items()]
    entries = {name: {"use": options.training} for name in TRAINING}
    made = {
        "claim_generator_info": [software[0]],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [opened], "softwareAgents": software}},
            {"label": "cawg.training-mining", "data": {"entries": entries}},
        ],
    }
    if options.title is not None:
        made["title"] = options.title
    return made, Parent(subject.data, subject.mime_type, f"input.{subject.format}")


def _version() -> str:
    import sdcore

    return str(sdcore.__version__)
