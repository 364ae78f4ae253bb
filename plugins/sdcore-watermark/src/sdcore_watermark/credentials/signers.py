"""Signers: a certificate chain, and something that signs bytes: a key in memory, or a call to an HSM or a KMS."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sdcore import RequestError
from sdcore.plugin import nearest

from .certificates import problems
from .extra import needed, read_pem
from .options import Credentials

Algorithm = Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)


@dataclass(frozen=True)
class Signer:
    """What signs.

    Attributes:
        certificates: PEM, the signer's certificate first, the root last.
        algorithm: one of :data:`ALGORITHMS`.
        sign: bytes to signature. ECDSA: DER or the two numbers one after the other; RSA-PSS with the hash's length of
            salt; Ed25519: 64 bytes. Called in the thread that saves a picture, so perhaps in several at once. What it
            raises is shown to whoever saves.
        public_key: that of the private key, of the package ``cryptography``, if it is at hand: it is compared with
            the certificate.
    """

    certificates: str
    algorithm: Algorithm
    sign: Callable[[bytes], bytes] = field(repr=False)
    public_key: Any = field(default=None, repr=False)

    def check(self) -> list[str]:
        """Why it cannot sign, a sentence each."""
        if self.algorithm not in ALGORITHMS:
            return [f"there is no algorithm {self.algorithm!r}.{nearest(self.algorithm, ALGORITHMS)}"]
        return problems(self.certificates, self.public_key)


Source = Signer | Callable[[], Signer] | str
_registered: dict[str, Source] = {}


def register_signer(name: str, signer: Source) -> None:
    """Make a signer known to every engine of this process, under a name that ``Credentials(signer=name)`` takes.

    Options hold a name and never a place in the code, because options come out of requests and files, which must not
    be able to call what they like. A package registers one with ``registry.add("credential_signer", name, signer)``.

    Args:
        name: taken names are replaced.
        signer: a :class:`Signer`, a function that makes one, or the place of either as ``"module:name"``.
    """
    _registered[name] = signer


def find_signer(options: Credentials, registry: Mapping[str, Any]) -> Signer:
    """The signer that options ask for; it has not been checked.

    Raises:
        RequestError: there is none, or its files cannot be read.
    """
    if options.signer is not None:
        known = {**registry, **_registered}
        if options.signer not in known:
            raise RequestError(
                f"there is no signer {options.signer!r}.{nearest(options.signer, known)} Register it with "
                "sdcore_watermark.credentials.register_signer"
            )
        return _made(options.signer, known[options.signer])
    missing = [name for name in ("certificate", "key") if getattr(options, name) is None]
    if missing:
        raise RequestError(
            f"credentials have no {' and no '.join(missing)}: give certificate= and key= (PEM), or signer=; "
            "`sdcore credentials init` makes a chain to try with"
        )
    assert options.certificate is not None
    assert options.key is not None
    return pem_signer(read_pem(options.certificate, "certificate"), read_pem(options.key, "key"))


def _made(name: str, value: Any) -> Signer:
    try:
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = getattr(importlib.import_module(module), attribute)
        made = value if isinstance(value, Signer) else value()
    except Exception as error:
        raise RequestError(f"signer {name!r} cannot be used: {type(error).__name__}: {error}") from error
    if not isinstance(made, Signer):
        raise RequestError(
            f"signer {name!r} is a {type(made).__name__}; it must be a Signer, or a function that makes one"
        )
    return made


def pem_signer(certificates: str, key: str) -> Signer:
    """A signer with a key in memory: P-256, P-384, P-521, RSA from 2048 bits, or Ed25519, unencrypted PEM.

    Raises:
        RequestError: the key cannot be read, or is of another kind.
    """
    serialization = needed("cryptography.hazmat.primitives.serialization")
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise RequestError("the private key is encrypted: give it decrypted, in a variable (key=env:NAME)") from None
    except Exception as error:
        raise RequestError(f"the private key cannot be read: {error}") from error
    algorithm, sign = _signing(private)
    return Signer(certificates, algorithm, sign, private.public_key())


def _signing(private: Any) -> tuple[Algorithm, Callable[[bytes], bytes]]:
    ec = needed("cryptography.hazmat.primitives.asymmetric.ec")
    rsa = needed("cryptography.hazmat.primitives.asymmetric.rsa")
    padding = needed("cryptography.hazmat.primitives.asymmetric.padding")
    ed25519 = needed("cryptography.hazmat.primitives.asymmetric.ed25519")
    hashes = needed("cryptography.hazmat.primitives.hashes")
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519", private.sign
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
        return "ps256", lambda data: bytes(private.sign(data, pss, hashes.SHA256()))
    curves: dict[str, tuple[Algorithm, Any]] = {
        "secp256r1": ("es256", hashes.SHA256()),
        "secp384r1": ("es384", hashes.SHA384()),
        "secp521r1": ("es512", hashes.SHA512()),
    }
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        name, digest = curves[private.curve.name]
        return name, lambda data: bytes(private.sign(data, ec.ECDSA(digest)))
    raise RequestError(
        f"a private key of the kind {type(private).__name__} cannot sign: use P-256, P-384, P-521, RSA from 2048 bits, "
        "or Ed25519"
    )
