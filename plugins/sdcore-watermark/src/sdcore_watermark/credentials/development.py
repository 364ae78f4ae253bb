"""A certificate chain for development: it signs, and nobody should trust it."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sdcore import OutputError
from sdcore.files import make_folder

from .extra import needed

MARK = "DEVELOPMENT, do not trust"
Kind = Literal["es256", "ed25519"]
KINDS: tuple[Kind, ...] = ("es256", "ed25519")


@dataclass(frozen=True)
class Chain:
    """A root and a certificate that it has issued, PEM. The root's private key is not kept: it can issue no more."""

    root: str
    certificates: str
    key: str = field(repr=False)


def make_chain(
    kind: Kind = "es256", *, days: int = 365, start: datetime.datetime | None = None, uses: tuple[str, ...] = ()
) -> Chain:
    """Make a chain whose names say that it is for development.

    Args:
        kind: of keys.
        days: how long the certificates hold.
        start: from when; None is an hour ago.
        uses: dotted names of the extended key usage, instead of emailProtection, to try out what is refused.
    """
    x509, oids = needed("cryptography.x509"), needed("cryptography.x509.oid")
    serialization = needed("cryptography.hazmat.primitives.serialization")
    root_key, key, digest = _keys(kind)
    begin = start or datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    root_name, name = _name(f"sdcore {MARK}: {kind} root"), _name(f"sdcore {MARK}: {kind} signer")
    usages = [x509.ObjectIdentifier(use) for use in uses] or [oids.ExtendedKeyUsageOID.EMAIL_PROTECTION]

    def certificate(subject: Any, public: Any, ca: bool) -> Any:
        nothing = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        usage = x509.KeyUsage(
            digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False, **nothing
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    root = certificate(root_name, root_key.public_key(), True).sign(root_key, digest)
    leaf = (
        certificate(name, key.public_key(), False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, digest)
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    root_pem = root.public_bytes(pem).decode()
    return Chain(root_pem, leaf.public_bytes(pem).decode() + root_pem, secret.decode())


def write_chains(folder: str | os.PathLike[str]) -> list[Path]:
    """Write a chain of each kind, readable by their owner only, and ``roots.pem`` with both roots.

    Returns:
        The files: certificates and key of each kind, then the roots.

    Raises:
        OutputError: a name is taken, or the folder cannot be written. Then nothing is written.
    """
    place = make_folder(folder)
    files: dict[str, str] = {}
    roots = ""
    for kind in KINDS:
        chain = make_chain(kind)
        files[f"{kind}.pem"], files[f"{kind}.key"] = chain.certificates, chain.key
        roots += chain.root
    files["roots.pem"] = roots
    taken = [name for name in files if (place / name).exists()]
    if taken:
        raise OutputError(f"{place / taken[0]} exists already: choose another folder, or remove it")
    return [_write_private(place / name, text) for name, text in files.items()]


def _write_private(path: Path, text: str) -> Path:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return path


def _keys(kind: Kind) -> tuple[Any, Any, Any]:
    if kind == "ed25519":
        ed25519 = needed("cryptography.hazmat.primitives.asymmetric.ed25519")
        return ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate(), None
    ec, hashes = needed("cryptography.hazmat.primitives.asymmetric.ec"), needed("cryptography.hazmat.primitives.hashes")
    root, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    return root, key, hashes.SHA256()


def _name(text: str) -> Any:
    x509, oid = needed("cryptography.x509"), needed("cryptography.x509.oid").NameOID
    return x509.Name(
        [
            x509.NameAttribute(oid.COUNTRY_NAME, "XX"),
            x509.NameAttribute(oid.ORGANIZATION_NAME, f"sdcore {MARK}"),
            x509.NameAttribute(oid.COMMON_NAME, text),
        ]
    )
