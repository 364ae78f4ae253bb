"""Records that were changed, and places that cannot be written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdcore import OutputError, Record, RecordError, Result
from sdcore.picture_files import read_record


@pytest.fixture(scope="module")
def written(before: Result) -> str:
    return before.record.to_json()


def test_a_record_is_read_as_it_was_written(before: Result, written: str) -> None:
    assert Record.from_json(written) == before.record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 4),
        ("request", {"prompt": "another"}),
        ("pixels_sha256", "0" * 64),
        ("metadata", {"a": {"b": 1}}),
        ("digest", ""),
    ],
)
def test_a_changed_record(written: str, name: str, value: Any) -> None:
    body = json.loads(written)
    assert body[name] != value
    with pytest.raises(RecordError, match=r"changed after it was written.*first saved"):
        Record.from_json(json.dumps({**body, name: value}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema_version": 1}', '{"a": 1, "a": 2}', "[" * 100_000, b"\xff"]
)
def test_what_is_no_record(text: str | bytes) -> None:
    with pytest.raises(RecordError):
        Record.from_json(text)


def test_a_newer_record(written: str) -> None:
    with pytest.raises(RecordError, match=r"schema 99.*upgrade sdcore"):
        Record.from_json(json.dumps({**json.loads(written), "schema_version": 99}))


def test_a_changed_record_in_a_picture(before: Result, tmp_path: Path) -> None:
    (path,) = before.save(tmp_path / "a.png")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"seed":3', b'"seed":4'))
    with pytest.raises(RecordError):
        read_record(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EIO, "cannot write"),
        (errno.EROFS, "not writable"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_file(
    before: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, overwrite: bool
) -> None:
    target = tmp_path / "a.png"
    if overwrite:
        target.write_bytes(b"before")
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) > 64:
            return real(descriptor, data[:64])  # some of it still fits
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match=words) as caught:
        before.save(target, overwrite=overwrite)
    monkeypatch.undo()
    assert caught.value.errno == number
    assert "a.png" in str(caught.value) or str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == (["a.png"] if overwrite else [])
    assert not overwrite or target.read_bytes() == b"before"
    before.save(target, overwrite=overwrite)


def test_an_unwritable_folder(before: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(OutputError, match=r"not writable.*use another"):
        before.save(tmp_path / "a.png")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none/a.png", "no folder"),
        ("a.xyz", "xyz"),
        ("a", "a"),
        (".", "folder"),
        ("a.png/b.png", "folder"),
        ("\0.png", "cannot write"),
    ],
)
def test_names_that_cannot_be_written(before: Result, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "a.png").write_bytes(b"a file")
    with pytest.raises(OutputError, match=words):
        before.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_taken_name(before: Result, tmp_path: Path, unharmed: Callable[[], None]) -> None:
    before.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*overwrite=True"):
        before.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == data
    unharmed()
