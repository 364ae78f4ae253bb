"""What a manifest says, and what keeps a run from starting."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")

from sdcore_watermark import Key, Watermark
from sdcore_watermark.credentials import Credentials, Signer, register_signer
from sdcore_watermark.credentials.manifest import definition
from sdcore_watermark.credentials.reading import Manifests, read_manifests
from sdcore_watermark.credentials.signers import pem_signer

from sdcore import Engine, PluginError, RequestError, verify

FAST: dict[str, Any] = {"seed": 3, "steps": 1, "height": 64, "width": 64}
AGAIN: dict[str, Any] = {"seed": 3, "steps": 1, "strength": 1.0}
DRAWN, REDRAWN = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"


def manifests(data: bytes, files: dict[str, str]) -> Manifests:
    found = read_manifests(data, "image/png", Path(files["anchors"]).read_text())
    assert isinstance(found, Manifests)
    assert found.verdict == "trusted", found.failures
    return found


def actions(found: Manifests) -> list[tuple[str, str]]:
    told = found.assertion("c2pa.actions.v2")["actions"]
    return [(one["action"], one.get("digitalSourceType", "").rpartition("/")[2]) for one in told]


def test_a_drawn_picture(tiny: Engine, files: dict[str, str], signed_by: dict[str, str]) -> None:
    result = tiny.generate("a secret cat", use=[Credentials(**signed_by, title="Cat", training="allowed")], **FAST)
    found = manifests(result.pictures[0].encode("png"), files)
    assert actions(found) == [("c2pa.created", DRAWN)]
    assert found.active["title"] == "Cat"
    agents = {one["name"]: one["version"] for one in found.assertion("c2pa.actions.v2")["softwareAgents"]}
    assert next(iter(agents)) == "sdcore"
    assert set(agents) == {"sdcore", "sdcore-watermark"}
    assert {one["use"] for one in found.assertion("cawg.training-mining")["entries"].values()} == {"allowed"}
    assert found.assertion("c2pa.ai-disclosure")["humanOversightLevel"] == "prompt_guided"
    made = found.assertion("org.sdcore.generation")
    assert made["prompt_sha256"] == hashlib.sha256(b"a secret cat").hexdigest()
    assert made["record_sha256"] == hashlib.sha256(result.record.to_json().encode()).hexdigest()
    assert made["pixels_sha256"] == result.record.pixels_sha256
    assert made["model"]["components"] == result.record.model.components
    assert "secret" not in json.dumps(found.store)
    assert not found.thumbnails
    assert "DEVELOPMENT" in result.reports[0]["credentials"]["signer"]


@pytest.mark.parametrize(("mode", "inside"), [("full", True), ("none", False)])
def test_how_much_of_the_prompt_is_told(
    mode: Any, inside: bool, tiny: Engine, files: dict[str, str], signed_by: dict[str, str]
) -> None:
    result = tiny.generate("a secret cat", use=[Credentials(**signed_by, prompt=mode)], **FAST)
    made = manifests(result.pictures[0].encode("png"), files).assertion("org.sdcore.generation")
    assert ("secret" in json.dumps(made)) == inside
    assert "prompt_sha256" not in made
    assert ("record" in made) == inside
    assert "record_sha256" not in made


def test_the_plain_record_stays_or_is_left_out(tiny: Engine, files: dict[str, str], signed_by: dict[str, str]) -> None:
    kept = tiny.generate("a secret cat", use=[Credentials(**signed_by)], **FAST).pictures[0]
    assert b"secret" in kept.encode("png")
    gone = tiny.generate("a secret cat", use=[Credentials(**signed_by, record="remove")], **FAST).pictures[0]
    for kind in ("png", "jpeg", "webp"):
        data = gone.encode(kind)
        assert b"secret" not in data
        found = verify(data, anchors=files["anchors"], host=tiny.host)
        assert found.verdict == "trusted"
        assert found.findings["record"].verdict == "none"
    assert np.array_equal(np.asarray(gone.image), np.asarray(Image.open(io.BytesIO(gone.encode("png")))))


def test_the_input_picture_keeps_its_credentials(
    tiny: Engine, files: dict[str, str], signed_by: dict[str, str], tmp_path: Path
) -> None:
    use = [Credentials(**signed_by)]
    (path,) = tiny.generate("a cat", use=use, **FAST).save(tmp_path / "secret name.png")
    for given, signed in ((str(path), True), (path.read_bytes(), True), (Image.open(path), False)):
        result = tiny.generate("a dog", image=given, use=use, **AGAIN)
        path.touch()
        data = result.pictures[0].encode("png")
        found = manifests(data, files)
        assert actions(found) == [("c2pa.opened", ""), ("c2pa.edited", REDRAWN)]
        (ingredient,) = found.active["ingredients"]
        assert ingredient["relationship"] == "parentOf"
        assert ingredient["title"] == "input.png"
        assert ("active_manifest" in ingredient) == signed
        assert len(found.store["manifests"]) == 1 + signed
        (one,) = verify(data, anchors=files["anchors"], host=tiny.host).findings["credentials"].history
        assert [parent.verdict for parent in one.parents] == ["trusted" if signed else "none"]
        (one,) = verify(data, host=tiny.host).findings["credentials"].history
        assert [parent.verdict for parent in one.parents] == ["valid-untrusted" if signed else "none"]


def test_a_thumbnail_of_the_input_picture_on_the_page(
    tiny: Engine, signed_by: dict[str, str], picture: Callable[[str], bytes]
) -> None:
    def told(**more: Any) -> tuple[bytes, int]:
        use = [Credentials(**signed_by, **more)]
        data = tiny.generate("a dog", image=picture("PNG"), use=use, **AGAIN).pictures[0].encode("png")
        found = verify(data, host=tiny.host)
        return found.findings["credentials"].history[0].parents[0].thumbnail, found.to_html().count("<img")

    assert told() == (b"", 2)  # the picture, at the top and in its history
    thumbnail, images = told(input_thumbnail=True)
    assert Image.open(io.BytesIO(thumbnail)).size == (64, 64)
    assert images == 3


def test_an_input_picture_that_was_altered_is_told_as_such(
    tiny: Engine, files: dict[str, str], signed_by: dict[str, str], tmp_path: Path
) -> None:
    use = [Credentials(**signed_by)]
    data = tiny.generate("a cat", use=use, **FAST).pictures[0].encode("png")
    made = tiny.generate("a dog", image=data + b"more", use=use, **AGAIN).pictures[0].encode("png")
    (one,) = verify(made, anchors=files["anchors"], host=tiny.host).findings["credentials"].history
    assert (one.verdict, one.parents[0].verdict) == ("trusted", "altered")


def test_inpainting_and_later_changes_of_the_file(
    tiny: Engine, files: dict[str, str], signed_by: dict[str, str], tmp_path: Path
) -> None:
    from sdcore_inpaint import Inpaint

    path = tmp_path / "input.jpg"
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    result = tiny.generate("a dog", image=str(path), use=[Inpaint(mask=mask), Credentials(**signed_by)], **AGAIN)
    path.unlink()  # what was read is kept until the picture is saved
    found = manifests(result.pictures[0].encode("png"), files)
    assert actions(found) == [("c2pa.opened", ""), ("c2pa.edited", REDRAWN)]
    (told,) = [a for a in found.assertion("c2pa.actions.v2")["actions"] if a["action"] == "c2pa.edited"]
    assert told["parameters"]["description"] == "a part was drawn anew"
    assert "sdcore-inpaint" in {one["name"] for one in found.assertion("c2pa.actions.v2")["softwareAgents"]}
    assert found.active["ingredients"][0]["format"] == "image/jpeg"


def test_latents_have_no_parent(tiny: Engine, files: dict[str, str], signed_by: dict[str, str]) -> None:
    first = tiny.generate("a cat", **FAST)
    result = tiny.generate("a cat", image=first.latents, use=[Credentials(**signed_by)], **AGAIN)
    found = manifests(result.pictures[0].encode("png"), files)
    assert actions(found) == [("c2pa.created", DRAWN)]
    assert "unknown origin" in json.dumps(found.assertion("c2pa.actions.v2"))


def test_the_watermark_is_bound(
    tiny: Engine, files: dict[str, str], signed_by: dict[str, str], key_file: str, key: Key
) -> None:
    big = FAST | {"height": 112, "width": 112}
    use = [Watermark(key=key_file, payload=0xABCD), Credentials(**signed_by)]
    found = manifests(tiny.generate("a cat", use=use, **big).pictures[0].encode("png"), files)
    assert ("c2pa.watermarked.bound", "") in actions(found)
    value = base64.b64encode(bytes.fromhex(f"{key.key_id}0000abcd")).decode()
    assert found.bindings() == {("org.sdcore.watermark.spread.1", value)}
    small = manifests(tiny.generate("a cat", use=use, **FAST).pictures[0].encode("png"), files)
    assert ("c2pa.watermarked.unbound", "") in actions(small)  # no room for a payload: nothing to look up
    assert small.bindings() == set()


def test_the_safety_report_is_named_by_its_hash() -> None:
    record = {
        "metadata": {"safety": {"report_sha256": "ab" * 32, "overrides": ["on_error: tests"]}},
        "request": {},
        "changes": {},
        "software": {"sdcore": "1"},
        "model": {"family": "sd1", "source": "m", "components": {}},
        "seed": 1,
        "pixels_sha256": "cd" * 32,
    }
    made = definition(record, "{}", agents={"sdcore": "1"})
    (generation,) = [a["data"] for a in made["assertions"] if a["label"] == "org.sdcore.generation"]
    assert generation["safety_report_sha256"] == "ab" * 32
    assert generation["safety_overrides"] == ["on_error: tests"]


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing given": ({}, "no certificate and no key"),
    "no key": ({"certificate": "certificate.pem"}, "no key"),
    "missing file": ({"certificate": "gone.pem", "key": "key.pem"}, "there is no file gone.pem"),
    "not PEM": ({"certificate": "certificate.pem", "key": "noise.pem"}, "no PEM file"),
    "another key": ({"certificate": "certificate.pem", "key": "other.pem"}, "not that of the certificate"),
    "not a leaf": ({"certificate": "anchors.pem", "key": "key.pem"}, "not that of the certificate"),
    "variable": ({"certificate": "certificate.pem", "key": "env:SDCORE_TEST_NO_KEY"}, "SDCORE_TEST_NO_KEY is not set"),
    "signer": ({"signer": "os:system"}, "there is no signer 'os:system'"),
    "store": ({"certificate": "certificate.pem", "key": "key.pem", "store": "s"}, "use the plugin watermark too"),
    "stamp": (
        {"certificate": "certificate.pem", "key": "key.pem", "timestamp_url": "http://127.0.0.1:9/"}
        | {"timestamp": "require"},
        "one is required",
    ),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_problems_come_before_anything_is_computed(
    what: str, tiny: Engine, files: dict[str, str], chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noise.pem").write_bytes(bytes(range(256)))
    Path("other.pem").write_text(chain("ed25519").key)
    options, message = PROBLEMS[what]
    with pytest.raises(RequestError, match=message):
        tiny.explain("a cat", use=[{"plugin": "credentials", "options": options}], **FAST)


def test_an_expired_certificate_is_a_problem(tiny: Engine, tmp_path: Path) -> None:
    import datetime

    from sdcore_watermark.credentials.development import make_chain

    made = make_chain("es256", days=30, start=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    (tmp_path / "c.pem").write_text(made.certificates)
    (tmp_path / "k.pem").write_text(made.key)
    use = [Credentials(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")]
    with pytest.raises(RequestError, match="expired on 2020-01-31"):
        tiny.explain("a cat", use=use, **FAST)


def test_without_the_extra_it_says_what_to_install(
    tiny: Engine, signed_by: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    data = tiny.generate("a cat", use=[Credentials(**signed_by)], **FAST).pictures[0].encode("png")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(RequestError, match=r"pip install 'sdcore-watermark\[c2pa\]'"):
        tiny.explain("a cat", use=[Credentials(**signed_by)], **FAST)
    found = verify(data, host=tiny.host).findings["credentials"]
    assert found.verdict == "unchecked"
    assert "pip install" in found.summary
    plain = tiny.generate("a cat", **FAST).pictures[0].encode("png")
    assert verify(plain, host=tiny.host).findings["credentials"].verdict == "none"


@pytest.mark.parametrize("wrong", [{"timestamp": "require"}, {"timestamp_url": "ftp://x"}, {"signer": "a", "key": "b"}])
def test_options_that_contradict_each_other(wrong: dict[str, Any], tiny: Engine) -> None:
    with pytest.raises(RequestError):
        tiny.explain("a cat", use=[{"plugin": "credentials", "options": wrong}], **FAST)


def test_a_key_out_of_the_environment(
    tiny: Engine, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SDCORE_TEST_KEY", Path(files["key"]).read_text())
    monkeypatch.setenv("SDCORE_TEST_CERTIFICATE", files["certificate"])  # a name is as good
    use = [Credentials(certificate="env:SDCORE_TEST_CERTIFICATE", key="env:SDCORE_TEST_KEY")]
    manifests(tiny.generate("a cat", use=use, **FAST).pictures[0].encode("png"), files)


def test_a_registered_signer(tiny: Engine, files: dict[str, str], chain: Callable[[str], Any]) -> None:
    made = chain("es256")
    inner, calls = pem_signer(made.certificates, made.key), []

    def token(data: bytes) -> bytes:
        calls.append(len(data))
        if len(calls) == 3:
            raise ConnectionError("the token was pulled out")
        return inner.sign(data)

    register_signer("test-token", lambda: Signer(made.certificates, "es256", token))
    result = tiny.generate("a cat", use=[Credentials(signer="test-token")], **FAST)
    assert len(calls) == 1  # tried out before anything was computed
    manifests(result.pictures[0].encode("png"), files)
    with pytest.raises(PluginError, match="ConnectionError: the token was pulled out"):
        result.pictures[0].encode("png")
    register_signer("test-broken", "no.such.module:signer")
    with pytest.raises(RequestError, match="ModuleNotFoundError"):
        tiny.explain("a cat", use=[Credentials(signer="test-broken")], **FAST)
