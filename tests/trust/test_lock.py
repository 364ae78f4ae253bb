"""A lock: exactly what was reviewed runs, and nothing of it is imported before it is known to be that."""

from __future__ import annotations

import importlib.metadata
import json
import os
import py_compile
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdcore import Engine, PluginLoadError
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder
from sdcore.trust import check_lock, differences, fingerprint, make_lock, packages, read_lock

Install = Callable[..., Path]


def lock(folder: Path) -> Path:
    file = folder / "sdcore.lock"
    file.write_text(make_lock().to_json())
    return file


def seen(name: str) -> Any:
    (package,) = [package for package in packages() if package.name == f"sdcore-{name}"]
    return fingerprint(package)


def imported() -> list[str]:
    return [name for name in sys.modules if name.startswith(("locked_", "imported_"))]


def refused(file: Path) -> str:
    with pytest.raises(PluginLoadError) as caught:
        check_lock(file)
    return str(caught.value)


def test_what_is_unchanged_passes_and_nothing_is_imported(install: Install, tmp_path: Path) -> None:
    install("one")
    install("two")
    file = lock(tmp_path)
    check_lock(file)
    assert differences(read_lock(file)) == []
    assert list(read_lock(file).packages) == ["sdcore", "sdcore-one", "sdcore-two"]
    assert imported() == []


def test_one_byte_of_any_file_is_seen(install: Install, site: Path, tmp_path: Path) -> None:
    package = install("one")
    file = lock(tmp_path)
    for path in [*package.iterdir(), *site.glob("sdcore_one-*/entry_points.txt"), *site.glob("sdcore_one-*/METADATA")]:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        text = refused(file)
        assert "sdcore-one" in text
        assert path.name in text
        assert "reinstall it" in text
        path.write_bytes(data)
    check_lock(file)
    assert imported() == []


def test_a_record_that_was_rewritten_with_its_file_is_seen(install: Install, site: Path, tmp_path: Path) -> None:
    """The package is whole in itself; only the lock knows that it is another."""
    package = install("one")
    file = lock(tmp_path)
    (package / "plugin.py").unlink()
    (package / "__init__.py").unlink()
    package.rmdir()
    for path in (site / "sdcore_one-1.0.dist-info").iterdir():
        path.unlink()
    (site / "sdcore_one-1.0.dist-info").rmdir()
    install("one", access="access = Access(network=True)")
    assert seen("one").problems == ()
    assert "sdcore-one 1.0 was changed: reinstall it, or review the change and lock again" in refused(file)


def test_a_plugin_more_a_plugin_less_and_another_version_are_named(
    install: Install, site: Path, tmp_path: Path
) -> None:
    install("one")
    file = lock(tmp_path)
    install("two")
    assert "sdcore-two 1.0 is installed and not locked: uninstall it, or review it and lock again" in refused(file)
    (site / "sdcore_one-1.0.dist-info").rename(site / "sdcore_one-1.1.dist-info")
    metadata = site / "sdcore_one-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    (site / "sdcore_one-1.1.dist-info" / "RECORD").unlink()
    text = refused(file)
    assert "sdcore-one is 1.1, locked is 1.0: install sdcore-one==1.0" in text
    assert "sdcore-two" in text
    for path in (site / "sdcore_one-1.1.dist-info").iterdir():
        path.unlink()
    (site / "sdcore_one-1.1.dist-info").rmdir()
    assert "sdcore-one 1.0 is locked and not installed: install sdcore-one==1.0" in refused(file)


def test_packages_of_models_and_other_groups_are_locked_too(install: Install, tmp_path: Path) -> None:
    file = lock(tmp_path)
    install("model", group="sdcore.models")
    assert "sdcore-model 1.0 is installed and not locked" in refused(file)


def test_what_discovery_would_import_cannot_hide(install: Install, site: Path, tmp_path: Path) -> None:
    """Neither behind a name that is locked already, nor by having none."""
    install("one")
    file = lock(tmp_path)
    install("two", record=False)
    metadata = site / "sdcore_two-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("sdcore-two", "sdcore-one"))
    assert [entry.name for entry in importlib.metadata.entry_points(group="sdcore.plugins")] == ["one", "two"]
    text = refused(file)
    assert "sdcore-one#2 1.0 is installed and not locked" in text
    metadata.unlink()
    assert "sdcore-two-1-0-dist-info ? is installed and not locked" in refused(file)


def test_files_that_are_links_are_hashed_under_their_own_names(install: Install, tmp_path: Path) -> None:
    package = install("one", record=False)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
        (package / f"{name}.py").symlink_to(tmp_path / f"{name}.txt")
    before = seen("one").sha256
    for name, other in (("a", "b"), ("b", "a")):
        (package / f"{name}.py").unlink()
        (package / f"{name}.py").symlink_to(tmp_path / f"{other}.txt")
    assert seen("one").sha256 != before
    (package / "more").symlink_to(tmp_path)
    assert "locked_one/more is a link to a folder" in seen("one").problems[0]


def test_a_file_that_was_added_and_one_that_was_taken_away_are_seen(install: Install, tmp_path: Path) -> None:
    package = install("one")
    file = lock(tmp_path)
    extra = package / "more.py"
    extra.write_text("")
    assert "locked_one/more.py was not installed with it" in refused(file)
    extra.unlink()
    (package / "plugin.py").unlink()
    assert "locked_one/plugin.py cannot be read" in refused(file)
    with pytest.raises(PluginLoadError, match="nothing was locked"):
        make_lock()


def test_a_compiled_file_of_something_else_is_seen(install: Install, tmp_path: Path) -> None:
    """Python would run it: its header says that it belongs to the source."""
    package = install("one")
    file = lock(tmp_path)
    source = package / "plugin.py"
    good, status = source.read_text(), source.stat()
    compiled = Path(py_compile.compile(str(source)) or "")
    check_lock(file)
    source.write_text(good.replace("None", "Nope"))  # as long as it was
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    py_compile.compile(str(source))
    source.write_text(good)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "the compiled form of locked_one/plugin.py is not what its source gives" in refused(file)
    os.utime(source)  # newer than the compiled file says: Python compiles it anew
    os.utime(source, (status.st_atime + 10, status.st_mtime + 10))
    check_lock(file)
    compiled.write_bytes(compiled.read_bytes()[:8] + int(source.stat().st_mtime).to_bytes(4, "little") + b"\0\0\0\0no")
    check_lock(file)  # of another size: Python does not take it


def test_editable_packages_are_hashed_by_their_source(install: Install, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "checkout"
    direct = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    package = install("one", folder=folder, direct=direct)
    monkeypatch.syspath_prepend(str(folder))
    assert (seen("one").kind, seen("one").problems) == ("source", ())
    file = lock(tmp_path)
    check_lock(file)
    (package / "data.bin").write_bytes(b"weights")
    assert "sdcore-one 1.0 was changed: reinstall it" in refused(file)


def test_a_package_that_hides_an_installed_one_is_seen(install: Install, tmp_path: Path, monkeypatch: Any) -> None:
    install("one")
    file = lock(tmp_path)
    elsewhere = tmp_path / "elsewhere" / "locked_one"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(elsewhere.parent))
    assert "locked_one is imported from" in refused(file)


def test_the_hash_is_the_same_on_another_machine(install: Install, site: Path, tmp_path: Path) -> None:
    """Who installed it, from where, and what was compiled since say nothing about the package."""
    install("one")
    before = seen("one").sha256
    (site / "sdcore_one-1.0.dist-info" / "INSTALLER").write_text("uv\n")
    (site / "sdcore_one-1.0.dist-info" / "direct_url.json").write_text('{"url": "file:///tmp/x.whl"}')
    py_compile.compile(str(site / "locked_one" / "plugin.py"))
    assert seen("one").sha256 == before
    assert seen("one").problems == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("no json", "is no lock of sdcore"),
        ("[]", "is no lock of sdcore"),
        ('{"format": "sdcore-lock", "version": 2, "packages": {}}', "version 2"),
        ('{"format": "sdcore-lock", "version": 1, "packages": {"sdcore": {"version": "1"}}}', "is no lock of sdcore"),
        ('{"format": "sdcore-lock", "version": 1, "packages": {}}', "does not lock sdcore itself"),
    ],
)
def test_a_lock_that_is_none_is_refused(site: Path, tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "some.lock"
    if text is not None:
        file.write_text(text)
    assert message in refused(file)


def test_an_engine_starts_with_what_was_locked_only(install: Install, tmp_path: Path) -> None:
    package = install("one")
    file = lock(tmp_path)
    with Engine.load(tiny_folder("sd1"), locked=file, device="cpu") as engine:
        assert list(engine.host.records) == ["one"]
    for name in imported():
        del sys.modules[name]
    with (package / "plugin.py").open("a") as stream:
        stream.write("\n")
    changed = r"sdcore-one 1\.0: locked_one/plugin\.py is not what was installed"
    with pytest.raises(PluginLoadError, match=changed):
        Engine.load("nowhere", locked=file)
    with pytest.raises(PluginLoadError, match=changed):
        Engine(load_model(str(tiny_folder("sd1"))), locked=file)
    assert imported() == []


def test_origins(install: Install) -> None:
    commit = "0123456789abcdef0123"
    origins = {
        "index": None,
        "folder": {"url": "file:///srv/my%20code", "dir_info": {}},
        "git": {"url": "https://me:secret@example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": commit}},
        "wheel": {"url": "file:///srv/x.whl", "archive_info": {}},
    }
    for name, direct in origins.items():
        install(name, direct=direct)
    found = {package.name: package.origin for package in packages()}
    assert found == {
        "sdcore": "unknown",
        "sdcore-index": "index (pip)",
        "sdcore-folder": f"folder {Path('/srv/my code')}",
        "sdcore-git": "git https://example.org/x.git@0123456789ab",
        "sdcore-wheel": f"file {Path('/srv/x.whl')}",
    }


def test_a_lock_is_readable_text(install: Install, tmp_path: Path) -> None:
    install("one")
    data = json.loads(lock(tmp_path).read_text())
    assert data["packages"]["sdcore-one"]["provides"] == ["sdcore.plugins:one"]
    assert data["packages"]["sdcore-one"]["sha256"] == seen("one").sha256
