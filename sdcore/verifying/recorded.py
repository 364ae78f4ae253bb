"""The core's own verifier: the record inside a picture. It is not signed, so it proves nothing by itself."""

from __future__ import annotations

from typing import Any

from sdcore.errors import RecordError
from sdcore.images import image_sha256
from sdcore.picture_files import find_record
from sdcore.record import Record

from .findings import Finding
from .subject import Subject
from .text import one_line


def check(subject: Subject, _: Any = None) -> Finding:
    """Read the record, and compare the pixels with it where the format keeps them."""
    try:
        record = find_record(subject.data)
    except RecordError as error:
        return Finding("altered", one_line(error))
    if record is None:
        return Finding("none", "it has no record of sdcore")
    facts = tuple(_facts(record))
    details = {"record": record.model_dump(mode="json")}
    if subject.format != "png":
        return Finding("present", f"a record; {subject.format} does not keep pixels to compare", facts, details=details)
    if image_sha256(subject.image) != record.pixels_sha256:
        return Finding("altered", "the pixels are not those that its record tells of", facts, details=details)
    return Finding("present", "a record, which fits the pixels", facts, details=details)


def _facts(record: Record) -> list[tuple[str, str]]:
    asked = {**record.request, **record.changes}
    found = [
        ("prompt", asked.get("prompt")),
        ("model", f"{record.model.source} ({record.model.family})"),
        ("seed", record.seed),
        ("size", f"{asked.get('width')}x{asked.get('height')}" if asked.get("width") else None),
        ("plugins", ", ".join(sorted({str(e.get("plugin")) for e in asked.get("use", ()) if isinstance(e, dict)}))),
        ("made with", f"sdcore {record.software.get('sdcore', '?')}"),
    ]
    return [(name, one_line(value)) for name, value in found if value not in (None, "")]
