"""What can be wrong with a certificate chain, found before anything is signed with it."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from .extra import needed

EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
KNOWN_USES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
    "2.5.29.37.0": "any",
    EMAIL_PROTECTION: "emailProtection",
}


def problems(pem: str, public_key: Any = None, now: datetime.datetime | None = None) -> list[str]:
    """Why a chain cannot sign, a sentence each; empty if nothing is known to be wrong.

    The rules are those of C2PA 2.x, section on certificate profiles, as c2pa-rs 0.91 applies them by default.

    Args:
        pem: the chain: the signer's certificate first.
        public_key: that of the private key, where it is at hand.
        now: the time to check against; None is the present.
    """
    x509 = needed("cryptography.x509")
    try:
        chain = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        return [f"the certificate chain cannot be read: {error}"]
    leaf = chain[0]
    found = _matching(chain, public_key) if public_key is not None else []
    found += _dates(chain, now or datetime.datetime.now(datetime.UTC))
    if (basic := _extension(leaf, x509.BasicConstraints)) is not None and basic.ca:
        found.append(f"{_name(leaf)} is an authority's certificate: sign with one that it has issued")
    uses = _extension(leaf, x509.ExtendedKeyUsage)
    names = [use.dotted_string for use in uses or ()]
    if EMAIL_PROTECTION not in names:
        shown = ", ".join(KNOWN_USES.get(name, name) for name in names) or "none"
        found.append(
            f"the extended key usage of {_name(leaf)} is {shown}: C2PA needs emailProtection ({EMAIL_PROTECTION})"
        )
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        found.append(f"the key usage of {_name(leaf)} has no digitalSignature")
    for lower, upper in itertools.pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except Exception as error:  # noqa: BLE001 - wrong issuer, wrong signature, unknown kind of key
            text = str(error) or type(error).__name__
            found.append(f"{_name(lower)} was not issued by {_name(upper)}, which follows it in the chain: {text}")
    return found


def signer_name(pem: str) -> str:
    """The name in the first certificate of a chain."""
    x509 = needed("cryptography.x509")
    return _subject(x509.load_pem_x509_certificates(pem.encode())[0])


def _matching(chain: list[Any], public_key: Any) -> list[str]:
    places = [place for place, one in enumerate(chain) if one.public_key() == public_key]
    if places and places[0] == 0:
        return []
    if places:
        return ["the chain begins with another certificate than the key's: put the signer's first, the root last"]
    return [f"the private key is not that of the certificate {_name(chain[0])}"]


def _dates(chain: list[Any], now: datetime.datetime) -> list[str]:
    found = []
    for one in chain:
        if now > one.not_valid_after_utc:
            found.append(f"the certificate {_name(one)} expired on {one.not_valid_after_utc:%Y-%m-%d}: get a new one")
        elif now < one.not_valid_before_utc:
            found.append(f"the certificate {_name(one)} is valid only from {one.not_valid_before_utc:%Y-%m-%d %H:%M}")
    return found


def _extension(certificate: Any, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except Exception:  # noqa: BLE001 - it is missing, or cannot be read, which is as good as missing
        return None


def _name(certificate: Any) -> str:
    return repr(_subject(certificate))


def _subject(certificate: Any) -> str:
    oid = needed("cryptography.x509.oid").NameOID
    for wanted in (oid.COMMON_NAME, oid.ORGANIZATION_NAME):
        found = certificate.subject.get_attributes_for_oid(wanted)
        if found:
            return str(found[0].value)
    return str(certificate.subject.rfc4514_string())
