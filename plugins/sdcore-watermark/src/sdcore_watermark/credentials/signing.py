"""Signing bytes with c2pa-python. Nothing here knows of engines."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sdcore import OutputError, RequestError

from .extra import needed
from .signers import Signer

MIME_TYPES: Mapping[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
PARENT = "parent"
Policy = Literal["require", "if-possible", "never"]


@dataclass(frozen=True)
class Parent:
    """The picture that another one was made from: its bytes as a file, whose own credentials are kept.

    ``thumbnail`` is a small JPEG of it for the manifest, empty for none.
    """

    data: bytes = field(repr=False)
    mime_type: str
    title: str
    thumbnail: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Signed:
    """A signed file, its manifest alone, and why it bears no time-stamp although one was asked for."""

    data: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    unstamped: str = ""


def sign(
    data: bytes,
    mime_type: str,
    definition: Mapping[str, Any],
    signer: Signer,
    parent: Parent | None = None,
    timestamp_url: str | None = None,
    timestamp: Policy = "if-possible",
) -> Signed:
    """Put a signed manifest into a file.

    Args:
        data: a PNG, JPEG or WebP.
        mime_type: what it is.
        definition: the manifest, as :func:`sdcore_watermark.credentials.manifest.definition` makes it.
        signer: signs it.
        parent: becomes an ingredient, named ``parent`` in the definition's actions.
        timestamp_url: of an RFC 3161 authority, which is sent the hash of the signature.
        timestamp: what to do if it does not answer.

    Raises:
        OutputError: the signer failed (its own error is in the message), the stamp that is required could not be had,
            or the manifest or the file are refused.
    """
    url = None if timestamp == "never" else timestamp_url
    try:
        return Signed(*_sign(data, mime_type, definition, signer, parent, url))
    except _Refused as refused:
        if url is None or refused.by_signer:
            raise OutputError(f"the picture could not be signed: {refused}") from refused.__cause__
        told = f"the time-stamp authority {url} gave no time-stamp ({refused})"
        if timestamp == "require":
            raise OutputError(f"{told}, and one is required (timestamp='require')") from refused.__cause__
    try:
        return Signed(*_sign(data, mime_type, definition, signer, parent, None), told)
    except _Refused as refused:
        raise OutputError(f"the picture could not be signed: {refused}") from refused.__cause__


def try_out(signer: Signer, timestamp_url: str | None = None) -> str | None:
    """Sign a tiny picture; why that does not work, or None."""
    made: dict[str, Any] = {"claim_generator_info": [{"name": "sdcore"}], "assertions": []}
    made["assertions"].append({"label": "c2pa.actions.v2", "data": {"actions": [_CREATED]}})
    try:
        sign(_tiny(), "image/png", made, signer, None, timestamp_url, "require")
    except (OutputError, RequestError) as error:
        return str(error)
    return None


_CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}


class _Refused(Exception):
    def __init__(self, message: str, by_signer: bool) -> None:
        super().__init__(message)
        self.by_signer = by_signer


def _sign(
    data: bytes,
    mime_type: str,
    definition: Mapping[str, Any],
    signer: Signer,
    parent: Parent | None,
    timestamp_url: str | None,
) -> tuple[bytes, bytes]:
    c2pa = needed("c2pa")
    raised: list[Exception] = []

    def callback(payload: bytes) -> bytes:
        # c2pa reports "COSE signature invalid" for whatever is raised here: keep the true reason.
        try:
            return bytes(signer.sign(bytes(payload)))
        except Exception as error:
            raised.append(error)
            raise

    out = io.BytesIO()
    try:
        native = c2pa.Signer.from_callback(
            callback, c2pa.C2paSigningAlg[signer.algorithm.upper()], signer.certificates, timestamp_url
        )
        # A context uses its signer up, so each signature has both of its own: no state is shared between threads.
        context = c2pa.Context.from_dict(settings(), native)
        with c2pa.Builder(dict(definition), context) as builder:
            if parent is not None:
                about: dict[str, Any] = {"title": parent.title, "relationship": "parentOf", "label": PARENT}
                if parent.thumbnail:
                    builder.add_resource("input-thumbnail.jpg", io.BytesIO(parent.thumbnail))
                    about["thumbnail"] = {"format": "image/jpeg", "identifier": "input-thumbnail.jpg"}
                builder.add_ingredient(about, parent.mime_type, io.BytesIO(parent.data))
            manifest = builder.sign(mime_type, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        if raised:
            raise _Refused(f"the signer raised {type(raised[0]).__name__}: {raised[0]}", True) from raised[0]
        raise _Refused(str(error), False) from error
    return out.getvalue(), bytes(manifest)


def settings(anchors: str | None = None) -> dict[str, Any]:
    """Settings of c2pa: no network, no thumbnails (they cost 357 ms and 130 kB), trust in ``anchors`` (PEM) only."""
    found: dict[str, Any] = {
        "verify": {
            "verify_trust": True,
            "verify_timestamp_trust": True,
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }
    if anchors:
        found["trust"] = {"user_anchors": anchors}
    return found


@functools.cache
def _tiny() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()
