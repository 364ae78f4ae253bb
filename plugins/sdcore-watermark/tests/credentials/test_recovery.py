"""Credentials that a file has lost, found again through its watermark; and what does not count as found."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")

from sdcore_watermark import Key, embed
from sdcore_watermark.credentials import Credentials, Store, VerifyCredentials, sign_file
from sdcore_watermark.credentials.manifest import binding
from sdcore_watermark.credentials.signers import pem_signer
from sdcore_watermark.credentials.signing import Signed, sign
from sdcore_watermark.credentials.verifier import check

from sdcore import RequestError
from sdcore.cli import main
from sdcore.verifying import EXIT_CODES, Finding
from sdcore.verifying.subject import read_subject

CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
PAYLOAD = 0x1234ABCD


@pytest.fixture(scope="module")
def marked(photo: Callable[..., Image.Image], key: Key) -> Image.Image:
    return embed(photo(256), key, PAYLOAD)


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def sealed(image: Image.Image, key_id: str, chain: Any, payload: int = PAYLOAD, pixels: str = "00") -> Signed:
    bound = binding({"scheme": "spread", "key_id": key_id, "payload": f"{payload:08x}"})
    actions = {"actions": [CREATED, {"action": "c2pa.watermarked.bound"}]}
    made = {
        "claim_generator_info": [{"name": "sdcore test"}],
        "assertions": [
            {"label": "c2pa.soft-binding", "data": bound},
            {"label": "c2pa.actions.v2", "data": actions},
            {"label": "org.sdcore.generation", "data": {"pixels_sha256": pixels}},
        ],
    }
    return sign(encoded(image), "image/png", made, pem_signer(chain.certificates, chain.key))


@pytest.fixture
def look(files: dict[str, str], key_file: str, tmp_path: Path) -> Callable[..., Finding]:
    """Verify with the key, the anchors and the store of this test."""

    def looked(data: bytes, **more: Any) -> Finding:
        given = {"anchors": files["anchors"], "key": key_file, "store": str(tmp_path / "store"), "search": "fast"}
        given |= more
        return check(read_subject(data), VerifyCredentials(**given))

    return looked


def test_a_stripped_and_edited_picture_is_recovered(
    marked: Image.Image, key: Key, chain: Callable[[str], Any], look: Callable[..., Finding], tmp_path: Path
) -> None:
    whole = sealed(marked, key.key_id, chain("es256"))
    Store(tmp_path / "store").add(key.key_id, f"{PAYLOAD:08x}", whole.manifest)
    for changed in (
        encoded(marked, "JPEG", quality=60),
        encoded(marked.crop((10, 20, 240, 250)), "WEBP", quality=80),
        encoded(marked.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG"),
    ):
        found = look(changed)
        assert found.verdict == "recovered"
        assert found.details["failures"] == ["assertion.dataHash.mismatch"]
        assert look(changed, anchors=None).verdict == "recovered-untrusted"
        assert look(changed, store=None, key=None).verdict == "none"
    assert look(whole.data).verdict == "trusted"


def test_a_credential_for_another_mark_is_not_recovered(
    marked: Image.Image, key: Key, chain: Callable[[str], Any], look: Callable[..., Finding], tmp_path: Path
) -> None:
    """Whoever can write to the store cannot give a picture the credential of another one."""
    other = sealed(marked, key.key_id, chain("es256"), payload=7)
    store = Store(tmp_path / "store")
    path = store.add(key.key_id, f"{PAYLOAD:08x}", other.manifest)
    (path.parent / "broken.c2pa").write_bytes(b"no manifest")
    changed = encoded(marked, "JPEG", quality=60)
    assert look(changed).verdict == "none"
    (tmp_path / "beside.c2pa").write_bytes(other.manifest)
    assert look(changed, manifest=str(tmp_path / "beside.c2pa")).verdict == "altered"


def test_an_unmarked_picture_is_not_recovered(
    photo: Callable[..., Image.Image], key: Key, look: Callable[..., Finding], tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    found = look(encoded(photo(128, 3)))
    assert found.verdict == "none"
    assert "no watermark of this key" in found.summary


def test_a_manifest_kept_beside_the_file(
    marked: Image.Image, key: Key, chain: Callable[[str], Any], look: Callable[..., Finding], tmp_path: Path
) -> None:
    whole = sealed(marked, key.key_id, chain("es256"))
    path = tmp_path / "beside.c2pa"
    path.write_bytes(whole.manifest)
    beside = {"manifest": str(path), "store": None}
    assert look(encoded(marked, "JPEG", quality=60), **beside).verdict == "recovered"
    # Without the mark nothing binds the manifest to pixels that are not those that were signed.
    assert look(encoded(marked, "JPEG", quality=60), **beside, key=None).verdict == "altered"
    with pytest.raises(RequestError, match="cannot read"):
        look(encoded(marked), manifest=str(tmp_path / "gone.c2pa"))


def test_the_mark_of_another_picture_under_a_valid_credential_is_told(
    marked: Image.Image, key: Key, chain: Callable[[str], Any], look: Callable[..., Finding]
) -> None:
    whole = sealed(marked, key.key_id, chain("es256"), payload=7)
    assert ("watermark found", "another than the credential names") in look(whole.data).facts


def test_several_pictures_with_one_payload_are_told(
    marked: Image.Image, key: Key, chain: Callable[[str], Any], look: Callable[..., Finding], tmp_path: Path
) -> None:
    for pixels in ("00", "11"):
        whole = sealed(marked, key.key_id, chain("es256"), pixels=pixels)
        Store(tmp_path / "store").add(key.key_id, f"{PAYLOAD:08x}", whole.manifest)
    assert "2 pictures bear this mark" in dict(look(encoded(marked, "JPEG", quality=60)).facts)["ambiguous"]


def test_a_store_takes_no_paths(tmp_path: Path, key_file: str) -> None:
    for wrong in ("../x", "", "AB", "a/b"):
        with pytest.raises(RequestError, match="names no mark"):
            Store(tmp_path).find(wrong, "00")
    with pytest.raises(RequestError, match="give the watermark key too"):
        check(read_subject(encoded(Image.new("RGB", (64, 64)))), VerifyCredentials(store=str(tmp_path)))


def test_wrong_anchors_are_said(files: dict[str, str], picture: Callable[[str], bytes]) -> None:
    with pytest.raises(RequestError, match="holds no certificate"):
        check(read_subject(picture("PNG")), VerifyCredentials(anchors=files["key"]))
    with pytest.raises(RequestError, match="there is no file"):
        check(read_subject(picture("PNG")), VerifyCredentials(anchors="gone.pem"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_hostile_manifests_give_a_finding(
    kind: str, signed_by: dict[str, str], files: dict[str, str], picture: Callable[[str], bytes]
) -> None:
    """Every 37th byte of the manifest changed, in turn: never an exception, and trusted only if it tells the same.

    Most of a manifest is room for the signature, zeros that mean nothing; so are some names of boxes.
    """
    plain = picture(kind)
    data = sign_file(plain, Credentials(**signed_by))
    start = data.index(b"jumb")
    seen, trusting = set(), VerifyCredentials(anchors=files["anchors"])
    sound = check(read_subject(data), trusting)
    for place in range(start, start + 6000, 37):
        changed = data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
        subject = read_subject(_repaired(changed) if kind == "PNG" else changed)
        found = check(subject, trusting)
        seen.add(found.verdict)
        if found.verdict == "trusted":
            assert (found.facts, found.history) == (sound.facts, sound.history)
    assert seen <= {"invalid", "altered", "none", "trusted"}
    assert "invalid" in seen


def _repaired(data: bytes) -> bytes:
    """A PNG whose check sums fit, as a forger would leave it."""
    made, place = data[:8], 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + size]
        made += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + size
    return made


def test_signing_what_exists(
    tiny: Any, signed_by: dict[str, str], files: dict[str, str], picture: Callable[[str], bytes]
) -> None:
    def actions(data: bytes) -> list[str]:
        found = check(read_subject(data), VerifyCredentials(anchors=files["anchors"]))
        assert found.verdict == "trusted"
        return [action for one in found.history for action in one.actions]

    options = Credentials(**signed_by)
    drawn = tiny.generate("a cat", seed=3, steps=1, height=64, width=64).pictures[0]
    assert actions(sign_file(drawn.encode("png"), options)) == ["created (trainedAlgorithmicMedia): drawn by a model"]
    for unknown in (drawn.encode("jpeg"), picture("PNG"), picture("WEBP"), sign_file(picture("PNG"), options)):
        assert actions(sign_file(unknown, options)) == ["opened"]
    edited = drawn.image.copy()
    edited.putpixel((0, 0), (1, 2, 3))
    from sdcore.picture_files import encode_image

    assert actions(sign_file(encode_image(edited, "png", drawn.record), options)) == ["opened"]


def test_the_commands(tmp_path: Path, picture: Callable[[str], bytes], capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["credentials", "init", "dev"]) == 0
    told = capsys.readouterr()
    assert "nobody should trust them" in told.err
    assert {path.stat().st_mode & 0o777 for path in Path("dev").iterdir()} == {0o600}
    assert b"DEVELOPMENT, do not trust" in _names(Path("dev/es256.pem"))
    assert main(["credentials", "init", "dev"]) == 1
    assert "exists already" in capsys.readouterr().err
    Path("a.png").write_bytes(picture("PNG"))
    Path("b.webp").write_bytes(picture("WEBP"))
    for kind in ("es256", "ed25519"):
        who = ["--certificate", f"dev/{kind}.pem", "--key", f"dev/{kind}.key"]
        assert main(["credentials", "sign", "a.png", "b.webp", *who, "-o", kind, "--quiet"]) == 0
        for name in ("a.png", "b.webp"):
            assert main(["credentials", "show", f"{kind}/{name}", "--anchors", "dev/roots.pem"]) == 0
            assert f"{kind} signer" in capsys.readouterr().out
    assert main(["credentials", "show", "a.png"]) == EXIT_CODES["none"]
    assert main(["credentials", "sign", "a.png", *who, "-o", "a.jpg"]) == 2
    assert "does not convert" in capsys.readouterr().err
    assert main(["credentials", "show", "es256/a.png", "--json"]) == EXIT_CODES["valid-untrusted"]
    assert '"manifests"' in capsys.readouterr().out


def _names(path: Path) -> bytes:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string().replace("\\", "").encode()
