"""Keys: files, rotation, what others may see of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from sdcore_watermark import Key
from sdcore_watermark.keys import PublicKeyWarning

from sdcore import OutputError, RequestError


def test_a_key_comes_back_from_its_file_which_only_its_owner_can_read(tmp_path: Path) -> None:
    key = Key.generate()
    path = key.save(tmp_path / "key.json")
    assert Key.load(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OutputError, match="exists already"):
        Key.generate().save(path)
    assert Key.load(path) == key
    assert [p.name for p in tmp_path.iterdir()] == ["key.json"]


def test_rotation_puts_a_new_secret_in_front(tmp_path: Path) -> None:
    key = Key.generate()
    rotated = key.rotated()
    assert rotated.generations[1:] == key.generations
    assert rotated.key_id != key.key_id
    assert [one.key_id for one in rotated.split()] == [rotated.key_id, key.key_id]
    path = key.save(tmp_path / "key.json")
    rotated.save(path, overwrite=True)
    assert Key.load(path) == rotated


def test_nothing_tells_the_secret(key: Key) -> None:
    secret = key.generations[0]
    for shown in (repr(key), str(key), key.key_id):
        assert secret.hex()[:8] not in shown
        assert str(secret)[2:-1] not in shown
    assert len({key.subkey("spread"), key.subkey("latent"), secret}) == 3


def test_a_key_file_that_others_can_read_is_pointed_out(tmp_path: Path, key: Key) -> None:
    path = key.save(tmp_path / "key.json")
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod 600"):
        Key.load(path)


def test_the_environment_names_a_file_or_holds_it(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key.save(tmp_path / "key.json")
    monkeypatch.setenv("MARK_KEY", str(path))
    assert Key.load("env:MARK_KEY") == key
    monkeypatch.setenv("MARK_KEY", path.read_text())
    assert Key.load("env:MARK_KEY") == key
    monkeypatch.delenv("MARK_KEY")
    with pytest.raises(RequestError, match="MARK_KEY is not set"):
        Key.load("env:MARK_KEY")


def test_the_public_key_is_never_silent() -> None:
    with pytest.warns(PublicKeyWarning, match="keygen"):
        assert Key.public().is_public
    assert not Key.generate().is_public


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": "x", "version": 1, "generations": []}', '{"format": "sdcore-watermark-key"']
)
def test_what_is_no_key_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(RequestError, match="no key file"):
        Key.load(path)


def test_bad_secrets(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"format": "sdcore-watermark-key", "version": 1, "generations": ["00ff"]}))
    path.chmod(0o600)
    with pytest.raises(RequestError, match="no key file"):
        Key.load(path)
    with pytest.raises(RequestError, match="there is no key file"):
        Key.load(tmp_path / "missing")
    with pytest.raises(RequestError, match="3 bytes"):
        Key((b"abc",))
    with pytest.raises(RequestError, match="at least one"):
        Key(())
