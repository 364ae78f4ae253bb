"""Signing bytes: what holds, what a change of any kind makes of it, and what keeps something from being signed."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")

from sdcore_watermark.credentials.certificates import problems
from sdcore_watermark.credentials.development import make_chain
from sdcore_watermark.credentials.reading import Manifests, read_manifests
from sdcore_watermark.credentials.signers import Signer, pem_signer
from sdcore_watermark.credentials.signing import sign, try_out

from sdcore import OutputError, RequestError

CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
MANIFEST: dict[str, Any] = {
    "claim_generator_info": [{"name": "sdcore test", "version": "1"}],
    "title": "a title to find",
    "assertions": [
        {"label": "c2pa.actions.v2", "data": {"actions": [CREATED]}},
        {"label": "org.sdcore.generation", "data": {"prompt_sha256": "0123456789abcdef"}},
    ],
}
DEAD = "http://127.0.0.1:9/"  # the discard port: nobody listens
Chain = Callable[[str], Any]
Picture = Callable[[str], bytes]


def signed(chain: Chain, picture: Picture, kind: str = "PNG", key: str = "es256", **more: Any) -> bytes:
    made = chain(key)
    signer = pem_signer(made.certificates, made.key)
    return sign(picture(kind), f"image/{kind.lower()}", MANIFEST, signer, **more).data


def read(data: bytes, kind: str, root: str | None, manifest: bytes | None = None) -> Manifests:
    found = read_manifests(data, f"image/{kind.lower()}", root, manifest)
    assert isinstance(found, Manifests), found
    return found


@pytest.mark.parametrize("key", ["es256", "ed25519"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_signed_picture_is_trusted_with_its_root_and_valid_without(
    kind: str, key: str, chain: Chain, picture: Picture
) -> None:
    data = signed(chain, picture, kind, key)
    assert read(data, kind, chain(key).root).verdict == "trusted"
    assert read(data, kind, None).verdict == "valid-untrusted"
    assert read(data, kind, chain("ed25519" if key == "es256" else "es256").root).verdict == "valid-untrusted"
    before, after = (Image.open(io.BytesIO(d)).convert("RGB").tobytes() for d in (picture(kind), data))
    assert before == after


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def with_text(data: bytes) -> bytes:
    """A tEXt chunk before the end of a PNG."""
    import struct
    import zlib

    body = b"tEXtComment\0edited"
    return data[:-12] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[-12:]


# What changed -> (verdict, code). The codes are those of C2PA's list.
TAMPERED: dict[str, tuple[str, Callable[[bytes], bytes], str, str]] = {
    "pixels of a PNG": (
        "PNG",
        lambda d: flipped(d, d.rindex(b"IDAT") + 2000),
        "altered",
        "assertion.dataHash.mismatch",
    ),
    "pixels of a JPEG": ("JPEG", lambda d: flipped(d, len(d) - 40), "altered", "assertion.dataHash.mismatch"),
    "bytes appended": ("PNG", lambda d: d + b"more", "altered", "assertion.dataHash.mismatch"),
    "text added": ("PNG", with_text, "altered", "assertion.dataHash.mismatch"),
    "an assertion": ("PNG", lambda d: d.replace(b"0123456789abcdef", b"0123456789abcdee"), "altered", "hashedURI"),
    "the claim": ("PNG", lambda d: d.replace(b"a title to find", b"a title to fine"), "invalid", "claimSignature"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_every_change_is_told(what: str, chain: Chain, picture: Picture) -> None:
    kind, change, verdict, code = TAMPERED[what]
    data = signed(chain, picture, kind)
    changed = change(data)
    assert changed != data
    found = read(changed, kind, chain("es256").root)
    assert found.verdict == verdict
    assert any(code in failure for failure in found.failures)


def test_a_webp_whose_end_was_changed_is_not_valid(chain: Chain, picture: Picture) -> None:
    data = signed(chain, picture, "WEBP")  # its manifest is last
    found = read_manifests(flipped(data, len(data) - 30), "image/webp", chain("es256").root)
    assert isinstance(found, str) or (found is not None and found.verdict == "invalid")


def test_saving_anew_strips_and_the_manifest_alone_tells_what_changed(chain: Chain, picture: Picture) -> None:
    made = chain("es256")
    whole = sign(picture("PNG"), "image/png", MANIFEST, pem_signer(made.certificates, made.key))
    out = io.BytesIO()
    Image.open(io.BytesIO(whole.data)).convert("RGB").save(out, "JPEG", quality=60)
    assert read_manifests(out.getvalue(), "image/jpeg", made.root) is None
    beside = read(out.getvalue(), "JPEG", made.root, whole.manifest)
    assert beside.only_pixels_changed
    assert beside.trusted_signer
    assert beside.verdict == "altered"


def test_a_dead_time_stamp_authority(chain: Chain, picture: Picture) -> None:
    made = chain("es256")
    signer, data = pem_signer(made.certificates, made.key), picture("PNG")
    with pytest.raises(OutputError, match=r"127\.0\.0\.1:9.*one is required"):
        sign(data, "image/png", MANIFEST, signer, None, DEAD, "require")
    without = sign(data, "image/png", MANIFEST, signer, None, DEAD, "if-possible")
    assert DEAD in without.unstamped
    assert read(without.data, "PNG", made.root).verdict == "trusted"
    never = sign(data, "image/png", MANIFEST, signer, None, DEAD, "never")
    assert never.unstamped == ""
    assert read(never.data, "PNG", made.root).verdict == "trusted"


@pytest.mark.parametrize("policy", ["require", "if-possible", "never"])
def test_what_a_signer_raises_is_shown(policy: Any, chain: Chain, picture: Picture) -> None:
    def locked(_: bytes) -> bytes:
        raise PermissionError("the token is locked, 0 tries left")

    signer = Signer(chain("es256").certificates, "es256", locked)
    with pytest.raises(OutputError, match="PermissionError: the token is locked, 0 tries left"):
        sign(picture("PNG"), "image/png", MANIFEST, signer, None, DEAD, policy)
    assert "0 tries left" in str(try_out(signer))


def test_a_signature_by_another_key_is_refused(chain: Chain, picture: Picture) -> None:
    mine, other = chain("es256"), make_chain("es256")
    wrong = Signer(mine.certificates, "es256", pem_signer(other.certificates, other.key).sign)
    with pytest.raises(OutputError, match="could not be signed"):
        sign(picture("PNG"), "image/png", MANIFEST, wrong)


def test_what_is_wrong_with_a_chain_is_said(chain: Chain) -> None:
    made, other = chain("es256"), chain("ed25519")
    key = pem_signer(made.certificates, made.key).public_key
    leaf = made.certificates.removesuffix(made.root)
    assert problems(made.certificates, key) == []
    assert any("is not that of the certificate" in text for text in problems(other.certificates, key))
    assert any("put the signer's first" in text for text in problems(made.root + leaf, key))
    assert any("was not issued by" in text for text in problems(leaf + other.root, key))
    assert any("authority's certificate" in text for text in problems(made.root))
    assert any("cannot be read" in text for text in problems("-----BEGIN CERTIFICATE-----\nAAAA\n"))
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)
    assert any("expired on" in text for text in problems(made.certificates, key, later))
    coming = make_chain(start=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
    assert any("valid only from" in text for text in problems(coming.certificates))


@pytest.mark.parametrize(("use", "named"), [("1.3.6.1.5.5.7.3.3", "codeSigning"), ("1.3.6.1.5.5.7.3.36", "documentS")])
def test_a_certificate_for_another_use_is_refused_as_c2pa_refuses_it(use: str, named: str) -> None:
    made = make_chain("es256", uses=(use,))
    assert any(named in text and "emailProtection" in text for text in problems(made.certificates))
    assert try_out(pem_signer(made.certificates, made.key)) is not None


def test_other_kinds_of_keys_sign(picture: Picture, chain: Chain) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def pem(key: Any) -> str:
        plain = serialization.NoEncryption()
        return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode())

    certificates = chain("es256").certificates
    assert pem_signer(certificates, pem(ec.generate_private_key(ec.SECP384R1()))).algorithm == "es384"
    assert pem_signer(certificates, pem(rsa.generate_private_key(65537, 2048))).algorithm == "ps256"
    with pytest.raises(RequestError, match="cannot sign"):
        pem_signer(certificates, pem(ec.generate_private_key(ec.SECP256K1())))
    with pytest.raises(RequestError, match="cannot be read"):
        pem_signer(certificates, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(RequestError, match="encrypted"):
        pem_signer(certificates, locked.decode())


def test_an_algorithm_must_be_known(chain: Chain) -> None:
    signer = replace(Signer(chain("es256").certificates, "es256", bytes), algorithm="es265")  # type: ignore[arg-type]
    assert "Did you mean 'es256'" in signer.check()[0]
