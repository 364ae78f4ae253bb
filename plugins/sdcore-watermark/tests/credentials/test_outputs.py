"""The seal is last: whatever way a picture leaves, its bytes verify, so nothing wrote to them afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")

from sdcore_watermark import Key, Watermark
from sdcore_watermark.credentials import Credentials

from sdcore import Engine, RequestError, replay_picture, verify
from sdcore.cli import main
from sdcore.events import Finished, Stepped
from sdcore.testing.tiny import tiny_folder

FAST: dict[str, Any] = {"seed": 3, "steps": 2, "height": 192, "width": 192}
SUFFIXES = (".png", ".jpg", ".webp")


@pytest.fixture
def policy(files: dict[str, str], key: Key, tmp_path: Path) -> Iterator[Engine]:
    """An application that puts a watermark and credentials on everything."""
    mark = Watermark(key=str(key.save(tmp_path / "mark.key")))
    seal = Credentials(certificate=files["certificate"], key=files["key"], store=str(tmp_path / "store"))
    with Engine.load(tiny_folder("sd1"), plugins=["watermark", "credentials"], always=[mark, seal]) as engine:
        yield engine


def assert_whole(data: bytes | Path, engine: Engine, files: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """Trusted, marked, and the credential names this mark."""
    key = str(tmp_path / "mark.key")
    use = [f"watermark:key={key}", f"credentials:key={key},anchors={files['anchors']}"]
    found = verify(data, use=use, host=engine.host)
    assert found.verdict == "trusted", found.to_text()
    assert found.findings["watermark"].verdict == "present"
    assert dict(found.findings["credentials"].facts)["watermark found"] == "the one that the credential names"
    return found.to_dict()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_save(suffix: str, policy: Engine, files: dict[str, str], tmp_path: Path) -> None:
    (path,) = policy.generate("a cat", **FAST).save(tmp_path / f"cat{suffix}")
    assert_whole(path, policy, files, tmp_path)


def test_encode_after_the_engine_was_closed(policy: Engine, files: dict[str, str], tmp_path: Path) -> None:
    result = policy.generate("a cat", **FAST)
    policy.close()
    for kind in ("png", "jpeg", "webp"):
        assert_whole(result.pictures[0].encode(kind), policy, files, tmp_path)


def test_stream(policy: Engine, files: dict[str, str], tmp_path: Path) -> None:
    previews: list[Any] = []
    for event in policy.stream("a cat", **FAST):
        if isinstance(event, Stepped):
            previews += event.preview()
        if isinstance(event, Finished):
            assert_whole(event.result.pictures[0].encode("png"), policy, files, tmp_path)
    assert previews == []


def test_several_pictures_in_several_batches(policy: Engine, files: dict[str, str], tmp_path: Path) -> None:
    paths = policy.generate("a cat", count=3, batch_size=2, **FAST).save(tmp_path / "cats.png")
    told = [assert_whole(path, policy, files, tmp_path) for path in paths]
    facts = [dict(one["findings"]["credentials"]["facts"]) for one in told]
    assert [fact["seed"] for fact in facts] == ["3", "4", "5"]
    payloads = {one["findings"]["watermark"]["details"]["payload"] for one in told}
    assert len(payloads) == 3


def test_replay_by_the_application(policy: Engine, files: dict[str, str], tmp_path: Path) -> None:
    (path,) = policy.generate("a cat", **FAST).save(tmp_path / "cat.png")
    again = replay_picture(path, engine=policy)
    assert again.identical
    assert_whole(again.picture.encode("png"), policy, files, tmp_path)


def test_others_replay_a_signed_picture_without_the_key(
    tiny: Engine, signed_by: dict[str, str], tmp_path: Path
) -> None:
    (path,) = tiny.generate("a cat", use=[Credentials(**signed_by)], **FAST).save(tmp_path / "cat.png")
    with Engine.load(tiny_folder("sd1"), plugins=[]) as bare:
        again = replay_picture(path, engine=bare)
    assert again.identical
    assert again.differences == []
    assert str(tmp_path) not in again.record.to_json()


def test_the_command_line(files: dict[str, str], key: Key, tmp_path: Path, capsys: Any) -> None:
    mark = key.save(tmp_path / "mark.key")
    credentials = f"credentials:certificate={files['certificate']},key={files['key']}"
    for suffix in SUFFIXES:
        out = str(tmp_path / f"cat{suffix}")
        arguments = ["generate", "a cat", "--model", str(tiny_folder("sd1")), "--steps", "1"]
        arguments += ["--height", "64", "--width", "64", "--plugins", "watermark,credentials", "--quiet"]
        assert main([*arguments, "--use", f"watermark:key={mark}", "--use", credentials, "-o", out]) == 0
        capsys.readouterr()
        code = main(["verify", out, "--anchors", files["anchors"], "--json", "--plugins", "watermark,credentials"])
        told = json.loads(capsys.readouterr().out)
        assert (code, told["verdict"]) == (0, "trusted")
        assert main(["verify", out, "--plugins", "watermark,credentials"]) == 4
        assert "VALID-UNTRUSTED" in capsys.readouterr().out


def test_a_request_cannot_get_around_the_policy(policy: Engine, signed_by: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="set by the application"):
        policy.generate("a cat", use=[Credentials(**signed_by, previews="allow")], **FAST)
    with pytest.raises(RequestError, match="cannot be signed"):
        policy.generate("a cat", output="latent", **FAST)


def test_a_format_that_is_not_signed_is_not_written(tiny: Engine, signed_by: dict[str, str], tmp_path: Path) -> None:
    result = tiny.generate("a cat", use=[Credentials(**signed_by)], **FAST)
    with pytest.raises(Exception, match="no format|not signed"):
        result.save(tmp_path / "cat.bmp")
    assert not (tmp_path / "cat.bmp").exists()


def test_nothing_of_c2pa_is_imported_before_it_is_used() -> None:
    import subprocess
    import sys

    code = (
        "import sys, sdcore_watermark.credentials, sdcore_watermark.credentials.plugin\n"
        "from sdcore.host import PluginHost\n"
        "PluginHost(['watermark', 'credentials'])\n"
        "print([name for name in ('c2pa', 'cryptography', 'torch', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_used_twice_or_warns(tiny: Engine, signed_by: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="used 2 times"):
        tiny.explain("a cat", use=[Credentials(**signed_by), Credentials(**signed_by)], **FAST)
    told: list[str] = []
    dead = Credentials(**signed_by, timestamp_url="http://127.0.0.1:9/")
    small = FAST | {"height": 64, "width": 64}
    result = tiny.generate("a cat", use=[dead], on_event=lambda e: told.append(getattr(e, "message", "")), **small)
    result.save(tmp_path / "cat.png")
    assert any("without a time-stamp" in text for text in told)
