"""Files are written whole or not at all; a taken name is never overwritten silently."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sdcore.errors import OutputError
from sdcore.files import check_writable, make_folder, next_free_name, numbered, sha256_file, write_atomic

DATA = bytes(range(256)) * 400


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links, and as on a file system that has none (exFAT, some network shares)."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", failing(errno.EPERM))


@pytest.mark.usefixtures("links")
def test_write_then_refuse_then_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert write_atomic(path, DATA) == path
    with pytest.raises(OutputError, match=r"a\.png exists already.*--overwrite") as caught:
        write_atomic(str(path), b"other")
    assert caught.value.errno == errno.EEXIST
    assert path.read_bytes() == DATA
    write_atomic(path, b"other", overwrite=True)
    assert path.read_bytes() == b"other"
    assert names(tmp_path) == ["a.png"]


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    path = write_atomic(tmp_path / "a", b"x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


@pytest.mark.usefixtures("links")
def test_of_racing_threads_exactly_one_wins(tmp_path: Path) -> None:
    for attempt in range(20):
        path, won, barrier = tmp_path / f"{attempt}.png", [], threading.Barrier(6)

        def write(number: int, path: Path = path, won: list[int] = won, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                write_atomic(path, bytes([number]) * 5000)
            except OutputError:
                return
            won.append(number)

        jobs = [threading.Thread(target=write, args=(i,)) for i in range(6)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert len(won) == 1
        assert path.read_bytes() == bytes(won) * 5000
    assert len(names(tmp_path)) == 20


def test_of_racing_processes_exactly_one_wins(tmp_path: Path) -> None:
    code = (
        "import sys; from sdcore.files import write_atomic; from sdcore.errors import OutputError\n"
        "sys.stdin.read()\n"
        "try: write_atomic(sys.argv[1], sys.argv[2].encode() * 90000); print('won')\n"
        "except OutputError: print('lost')"
    )
    path = tmp_path / "one.png"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for i in range(4)
    ]
    for job in jobs:
        assert job.stdin is not None
        job.stdin.close()
        job.stdin = None
    ends = [job.communicate()[0].strip() for job in jobs]
    assert sorted(ends) == ["lost", "lost", "lost", "won"]
    assert path.read_bytes() == str(ends.index("won")).encode() * 90000
    assert names(tmp_path) == ["one.png"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("where", ["open", "write", "fsync", "close", "link"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, overwrite: bool
) -> None:
    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    target = old if overwrite else tmp_path / "new.png"
    real_write, real_close = os.write, os.close

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < len(DATA):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[: len(data) // 2])

    def close(descriptor: int) -> None:
        real_close(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    fakes = {"write": half, "close": close}
    step = "replace" if where == "link" and overwrite else where
    monkeypatch.setattr(os, step, fakes.get(step, failing(errno.ENOSPC)))
    with pytest.raises(OutputError, match=rf"disk is full.*{target.name} needs 102,400 bytes.*free") as caught:
        write_atomic(target, DATA, overwrite=overwrite)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["old.png"]
    assert old.read_bytes() == b"old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_systems_own_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: real("/dev/full", os.O_WRONLY))
    with pytest.raises(OutputError, match="disk is full"):
        write_atomic(tmp_path / "a.png", DATA)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_write_that_the_system_cuts_short_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from sdcore.files import write_atomic; from sdcore.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(sys.argv[1], bytes(9000))\n"
        "except OutputError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert names(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.png", DATA)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_without_links_a_failed_rename_gives_the_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOTSUP))
    monkeypatch.setattr(os, "replace", failing(number))
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "a.png", DATA)
    assert names(tmp_path) == []


def test_a_file_system_without_fsync_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    assert write_atomic(tmp_path / "a.png", DATA).read_bytes() == DATA


# --- names that cannot be written; the same before any work and while writing


@pytest.mark.parametrize("act", [check_writable, lambda p, o=False: write_atomic(p, b"x", overwrite=o)])
class TestRefused:
    def test_taken(self, tmp_path: Path, act: Callable[..., object]) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"old")
        with pytest.raises(OutputError, match=r"exists already: choose another name, or pass overwrite=True"):
            act(path)
        act(path, True)

    def test_missing_folder_is_named_and_not_made(self, tmp_path: Path, act: Callable[..., object]) -> None:
        with pytest.raises(OutputError, match=r"there is no folder .*missing: make it"):
            act(tmp_path / "missing" / "a.png")
        assert names(tmp_path) == []

    def test_a_file_in_the_place_of_the_folder(self, tmp_path: Path, act: Callable[..., object]) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="no folder"):
            act(tmp_path / "file" / "a.png")

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder(self, tmp_path: Path, act: Callable[..., object], overwrite: bool) -> None:
        for path in (tmp_path, f"{tmp_path}/", f"{tmp_path}/new/"):
            with pytest.raises(OutputError, match="is a folder: name the file"):
                act(path, overwrite)

    @pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png"])
    def test_impossible_names(self, tmp_path: Path, act: Callable[..., object], name: str) -> None:
        with pytest.raises(OutputError, match="cannot write"):
            act(f"{tmp_path}/{name}")

    @pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
    def test_a_device_is_not_replaced(self, tmp_path: Path, act: Callable[..., object]) -> None:
        (tmp_path / "link").symlink_to("/dev/null")
        for path in ("/dev/null", tmp_path / "link"):
            with pytest.raises(OutputError, match="not a regular file"):
                act(path, True)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
    def test_unwritable_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[..., object], number: int
    ) -> None:
        monkeypatch.setattr(os, "open", failing(number))
        with pytest.raises(OutputError, match="is not writable") as caught:
            act(tmp_path / "a.png")
        assert caught.value.errno == number

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_folder_without_write_permission(self, tmp_path: Path, act: Callable[..., object]) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(OutputError, match="is not writable"):
                act(tmp_path / "a.png")
        finally:
            tmp_path.chmod(0o700)


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / ("x" * 251 + ".png"))
    assert names(tmp_path) == []


def test_the_longest_name_that_is_possible(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    assert write_atomic(path, b"x").exists()


def test_a_link_is_followed_when_overwriting_and_taken_otherwise(tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    link.symlink_to(real)
    with pytest.raises(OutputError, match="exists already"):
        write_atomic(link, b"x")
    write_atomic(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


# --- names


def test_numbered() -> None:
    assert numbered("out/apple.png", 0, 1) == Path("out/apple.png")
    assert [str(numbered("apple.png", i, 3)) for i in range(3)] == ["apple-1.png", "apple-2.png", "apple-3.png"]
    assert str(numbered("a.b.png", 0, 12)) == "a.b-01.png"


def test_next_free_name(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        path = next_free_name(tmp_path, "apple", ".png")
        write_atomic(path, b"x")
        found.append(path.name)
    assert found == ["apple.png", "apple-2.png", "apple-3.png"]
    assert next_free_name(tmp_path, "Apple", ".PNG").name == "Apple-4.PNG"
    assert next_free_name(tmp_path / "missing", "apple", ".png").name == "apple.png"
    with pytest.raises(OutputError, match="no file name"):
        next_free_name(tmp_path, "../apple", ".png")


def test_make_folder(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(OutputError):
            make_folder(path)


def test_sha256_file(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a", DATA)
    assert sha256_file(path) == hashlib.sha256(DATA).hexdigest()
