"""Reading manifests with c2pa-python, and what its status codes amount to."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcore.verifying import Verdict

from .extra import needed
from .signing import settings

UNTRUSTED, TRUSTED = "signingCredential.untrusted", "signingCredential.trusted"
MISMATCH = "assertion.dataHash.mismatch"
ALTERED = frozenset(
    {
        MISMATCH,
        "assertion.hashedURI.mismatch",
        "assertion.bmffHash.mismatch",
        "assertion.boxesHash.mismatch",
        "assertion.collectionHash.mismatch",
        "assertion.missing",
    }
)
"""Codes that say: signed as it should be, and changed since. C2PA 2.x, section on validation status codes."""
MAX_THUMBNAIL = 1024 * 1024


@dataclass(frozen=True)
class Manifests:
    """The manifests of a file: c2pa's JSON, and what validation gave.

    Attributes:
        store: what ``Reader.json`` gives: ``manifests`` by label, ``active_manifest``, ``validation_results``.
        state: "Trusted", "Valid" or "Invalid".
        failures: status codes of the active manifest, without repetition.
        successes: the same.
        thumbnails: by identifier; untrusted.
    """

    store: Mapping[str, Any]
    state: str
    failures: tuple[str, ...]
    successes: tuple[str, ...]
    thumbnails: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def active(self) -> Mapping[str, Any]:
        """The manifest of the file itself."""
        found: Mapping[str, Any] = self.manifest(str(self.store.get("active_manifest")))
        return found

    def manifest(self, label: str) -> Mapping[str, Any]:
        """A manifest by its label; empty if there is none."""
        found = self.store.get("manifests", {}).get(label, {})
        return found if isinstance(found, Mapping) else {}

    @property
    def verdict(self) -> Verdict:
        """What the manifest says of the file that it was read with."""
        if self.state == "Trusted":
            return "trusted"
        if self.state == "Valid":
            return "valid-untrusted"
        wrong = set(self.failures) - {UNTRUSTED}
        return "altered" if wrong and wrong <= ALTERED else "invalid"

    @property
    def trusted_signer(self) -> bool:
        """Whether the signature holds and its signer is vouched for, whatever became of the file."""
        return "claimSignature.validated" in self.successes and TRUSTED in self.successes

    @property
    def only_pixels_changed(self) -> bool:
        """Whether all of the manifest holds but the hash of the file."""
        signed = "claimSignature.validated" in self.successes
        return signed and set(self.failures) - {UNTRUSTED} == {MISMATCH}

    def assertion(self, label: str) -> Mapping[str, Any]:
        """An assertion of the active manifest; empty if there is none."""
        return assertion(self.active, label)

    def bindings(self) -> set[tuple[str, str]]:
        """(algorithm, value) of the soft bindings that the signer made."""
        found = set()
        for one in self.active.get("assertions", ()):
            data = one.get("data")
            if not str(one.get("label", "")).startswith("c2pa.soft-binding") or not isinstance(data, Mapping):
                continue
            blocks = [block for block in data.get("blocks", ()) if isinstance(block, Mapping)]
            found |= {(str(data.get("alg")), str(block.get("value"))) for block in blocks}
        return found


def read_manifests(
    data: bytes, mime_type: str, anchors: str | None = None, manifest: bytes | None = None
) -> Manifests | str | None:
    """The manifests in a file, or given beside it. No address is fetched.

    Args:
        data: the file.
        mime_type: of it.
        anchors: PEM of the roots that are trusted.
        manifest: read this instead of what is in the file.

    Returns:
        The manifests; None if there are none; a sentence if what is there cannot be read.
    """
    c2pa = needed("c2pa")
    try:
        context = c2pa.Context.from_dict(settings(anchors))
        with c2pa.Reader(mime_type, io.BytesIO(data), manifest, context=context) as reader:
            store = json.loads(reader.json())
            results = (reader.get_validation_results() or {}).get("activeManifest", {})
            return Manifests(
                store,
                str(reader.get_validation_state()),
                _codes(results, "failure"),
                _codes(results, "success"),
                _thumbnails(reader, store),
            )
    except c2pa.C2paError as error:
        text = str(error)
        if text.startswith(("ManifestNotFound", "NotSupported")) or "unsupported" in text.lower():
            return None
        return text
    except ValueError as error:
        return f"its JSON cannot be read: {error}"


def assertion(manifest: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The data of an assertion of a manifest; empty if there is none."""
    for one in manifest.get("assertions", ()):
        if isinstance(one, Mapping) and one.get("label") == label and isinstance(one.get("data"), Mapping):
            found: Mapping[str, Any] = one["data"]
            return found
    return {}


def _codes(results: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.get("code")) for one in results.get(kind, ())))


def _thumbnails(reader: Any, store: Mapping[str, Any]) -> dict[str, bytes]:
    c2pa = needed("c2pa")
    found: dict[str, bytes] = {}
    for manifest in store.get("manifests", {}).values():
        for owner in (manifest, *manifest.get("ingredients", ())):
            identifier = (owner.get("thumbnail") or {}).get("identifier")
            if not isinstance(identifier, str) or identifier in found or len(found) >= 32:
                continue
            out = io.BytesIO()
            try:
                reader.resource_to_stream(identifier, out)
            except c2pa.C2paError:
                continue  # redacted, or gone: the page does without
            if len(out.getvalue()) <= MAX_THUMBNAIL:
                found[identifier] = out.getvalue()
    return found
