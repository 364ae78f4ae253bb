"""The verifier ``credentials``: what a picture's content credentials are worth, and how lost ones are found again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field

from sdcore import Asset, Options, RequestError
from sdcore.verifying import Finding, Subject, Verdict

from .extra import needed, read_pem
from .manifest import GENERATION
from .reading import Manifests, read_manifests
from .store import MAX_MANIFEST, Store
from .telling import facts, history, signer

SUMMARIES: dict[Verdict, str] = {
    "trusted": "signed by {signer}, whom an anchor vouches for; nothing was changed since",
    "valid-untrusted": "signed by {signer}, for whom no anchor vouches; nothing was changed since",
    "altered": "signed by {signer}, and changed since",
    "invalid": "the credential does not hold",
    "recovered": "found again through the watermark: signed by {signer}, whom an anchor vouches for; the pixels are "
    "not those that were signed",
    "recovered-untrusted": "found again through the watermark: signed by {signer}, for whom no anchor vouches; the "
    "pixels are not those that were signed",
}


RANKS: tuple[Verdict, ...] = ("trusted", "valid-untrusted", "recovered", "recovered-untrusted")


class VerifyCredentials(Options):
    """Whom to trust, and where to look for credentials that a file has lost."""

    anchors: Asset | None = Field(
        default=None, description="PEM file, or env:NAME: root certificates of those you trust"
    )
    manifest: Asset | None = Field(default=None, description="a manifest kept beside the picture (.c2pa)")
    store: Asset | None = Field(
        default=None, description="folder of manifests, as the option store of credentials fills it"
    )
    key: Asset | None = Field(default=None, description="watermark key, to find lost credentials in the store")
    scheme: str = Field(default="spread", description="watermark scheme")
    search: Literal["fast", "auto"] = Field(default="auto", description="fast: no scales and turns of the mark")


def check(subject: Subject, options: VerifyCredentials | None) -> Finding:
    """Read and validate the manifests in a picture; if it has none that hold, look for them by its watermark.

    Raises:
        RequestError: the anchors, the manifest or the key cannot be read.
    """
    options = options or VerifyCredentials()
    anchors = None if options.anchors is None else _anchors(options.anchors)
    mark = _mark(subject, options)
    beside = None if options.manifest is None else _read_manifest(options.manifest)
    try:
        needed("c2pa")
    except RequestError as error:
        if b"c2pa" in subject.data and b"jumb" in subject.data:
            return Finding("unchecked", f"it seems to have content credentials: {error}")
        return Finding("none", "it has no content credentials")
    found = read_manifests(subject.data, subject.mime_type, anchors)
    if isinstance(found, Manifests) and found.verdict != "invalid":
        return _finding(found, found.verdict, subject, _leads(found, mark))
    fitting = []
    for manifest in _candidates(options, mark, beside):
        other = read_manifests(subject.data, subject.mime_type, anchors, manifest)
        verdict = _recovered(other, mark) if isinstance(other, Manifests) else None
        if isinstance(other, Manifests) and verdict is not None:
            fitting.append((RANKS.index(verdict), other))
    if fitting:
        rank, best = min(fitting, key=lambda one: one[0])  # of equals the newest
        return _finding(best, RANKS[rank], subject, _others([one for _, one in fitting]))
    if isinstance(found, Manifests):
        return _finding(found, "invalid", subject, _leads(found, mark))
    if isinstance(found, str):
        return Finding("invalid", f"its content credentials cannot be read: {found}", signed=True)
    if beside is not None:
        return Finding("altered", "the manifest that was given does not fit the picture", signed=True)
    return Finding("none", _nothing(options, mark))


Mark = tuple[str, str, str]
"""Algorithm, key id and payload of a watermark that was found."""


def _mark(subject: Subject, options: VerifyCredentials) -> Mark | None:
    if options.key is None:
        if options.store is not None:
            raise RequestError("the store is searched by watermark: give the watermark key too (key=)")
        return None
    from sdcore_watermark import Key, detect

    from .manifest import algorithm

    found = detect(subject.image, Key.load(options.key), options.scheme, options.search)
    if not found.found() or found.payload is None:
        return None
    return algorithm(options.scheme), found.key_id, f"{found.payload:08x}"


def _candidates(options: VerifyCredentials, mark: Mark | None, beside: bytes | None) -> Iterator[bytes]:
    if beside is not None:
        yield beside
    if options.store is not None and mark is not None:
        yield from Store(options.store).find(mark[1], mark[2])


def _recovered(other: Manifests, mark: Mark | None) -> Verdict | None:
    """The verdict about a manifest that was not in the file; None if it does not belong to the picture."""
    if other.verdict in ("trusted", "valid-untrusted"):
        return other.verdict  # the very bytes that were signed, but for the manifest
    if not other.only_pixels_changed or not _bound(other, mark):
        return None
    return "recovered" if other.trusted_signer else "recovered-untrusted"


def _bound(manifests: Manifests, mark: Mark | None) -> bool:
    """Whether the signer has named this very mark: a store, or whoever gives a manifest, could claim anything."""
    from .manifest import bound_value

    return mark is not None and (mark[0], bound_value(mark[1], mark[2])) in manifests.bindings()


def _others(fitting: list[Manifests]) -> dict[str, str]:
    """A warning where manifests of several pictures fit: one payload may have been put into many."""
    pictures = {str(one.assertion(GENERATION).get("pixels_sha256")) for one in fitting}
    return {} if len(pictures) < 2 else {"ambiguous": f"{len(pictures)} pictures bear this mark; this is the newest"}


def _leads(found: Manifests, mark: Mark | None) -> dict[str, str]:
    if mark is None:
        return {}
    fits = _bound(found, mark)
    return {"watermark found": "the one that the credential names" if fits else "another than the credential names"}


def _finding(found: Manifests, verdict: Verdict, subject: Subject, more: dict[str, str]) -> Finding:
    details = {
        "state": found.state,
        "trusted_signer": found.trusted_signer,
        "failures": list(found.failures),
        "successes": list(found.successes),
        "store": found.store,
    }
    made = Finding(
        verdict,
        SUMMARIES[verdict].format(signer=signer(found.active) or "somebody unnamed"),
        facts(found),
        history(found, subject.name, verdict),
        True,
        details,
    )
    return replace(made, facts=(*made.facts, *more.items()))


def _nothing(options: VerifyCredentials, mark: Mark | None) -> str:
    if options.store is None:
        return "it has no content credentials"
    if mark is None:
        return "it has no content credentials, and no watermark of this key to find them by"
    return f"it has no content credentials, and the store has none for its watermark ({mark[1]}, {mark[2]})"


def _anchors(value: str) -> str:
    text = read_pem(value, "anchors")
    if "BEGIN CERTIFICATE" not in text:
        raise RequestError(f"anchors: {value} holds no certificate")
    return text


def _read_manifest(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise RequestError(f"manifest: cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_MANIFEST:
        raise RequestError(f"manifest: {path} has more than {MAX_MANIFEST:,} bytes")
    return data
