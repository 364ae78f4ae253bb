"""What a crash leaves, and what the next start makes of it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

import sdcore

SOURCE = Path(__file__).parents[1] / "src" / "gallery_server"


def test_what_was_running_runs_again_and_draws_the_same(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path, work=False) as server:
        key = server.key()
        job = server.draw(key).json()
        cancelled = server.draw(key).json()
        for _ in range(2):
            taken = server.state.jobs.take()
        server.state.jobs.cancel(taken.owner, cancelled["id"])
        # The first attempt dies between its files and its rows.
        (server.state.folder.pictures / f"{job['id']}-0.png").write_bytes(b"half")
        (server.state.folder.pictures / ".sdcore-left.tmp").write_bytes(b"half")
        (server.state.folder.uploads / ".incoming-left").write_bytes(b"half")
    with opened(tmp_path) as server:
        found = server.wait(key, job["id"])
        assert found["state"] == "done"
        assert server.client.get(f"/api/jobs/{cancelled['id']}", headers=key).json()["state"] == "cancelled"
        (row,) = server.client.get("/api/pictures", headers=key).json()["pictures"]
        assert row["seed"] == job["request"]["seed"]
        assert {file.name for file in server.state.folder.pictures.iterdir()} == {f"{job['id']}-0.png"}
        assert not list(server.state.folder.uploads.iterdir())


def test_a_server_that_stops_goes_on_later(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path) as server:
        key = server.key()
        job = server.draw(key, steps=50, count=4, height=128, width=128).json()
        server.wait(key, job["id"], ("running",))
    with opened(tmp_path, work=False) as server:
        assert server.client.get(f"/api/jobs/{job['id']}", headers=key).json()["state"] == "queued"
        again = server.state.jobs.take()
        assert (again.id, again.attempt, again.body) == (job["id"], 2, job["request"])


def test_a_job_that_kills_the_server_is_given_up(opened: Any, tmp_path: Path) -> None:
    for _ in range(3):
        with opened(tmp_path, work=False) as server:
            key = server.key() if not server.state.accounts.all() else key  # noqa: F821 - of the first round
            job = server.draw({**key, "Idempotency-Key": "deadly"}).json()
            assert server.state.jobs.take() is not None
    with opened(tmp_path, work=False) as server:
        found = server.client.get(f"/api/jobs/{job['id']}", headers=key).json()
        assert found["state"] == "failed"
        assert "3 times" in found["message"]
        assert server.state.jobs.take() is None


def test_an_attempt_that_was_given_up_cannot_end_the_job(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path, work=False) as server:
        server.draw(server.key())
        first = server.state.jobs.take()
        server.state.jobs.recover()
        second = server.state.jobs.take()
        assert server.state.jobs.finish(first, "done") is None
        assert server.state.jobs.finish(second, "done").state == "done"
        assert server.state.jobs.finish(second, "failed") is None


def test_a_folder_has_one_server(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path, work=False), pytest.raises(BlockingIOError), opened(tmp_path, work=False):
        pass


def test_owners_take_turns(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path, work=False) as server:
        busy, rare = server.key("busy"), server.key("rare")
        jobs = [server.draw(key).json()["id"] for key in (busy, busy, busy, rare)]
        assert [server.state.jobs.take().id for _ in range(4)] == [jobs[0], jobs[3], jobs[1], jobs[2]]


def test_it_is_written_on_the_public_api() -> None:
    allowed = {"sdcore.events", "sdcore.files", "sdcore.images"}
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sdcore":
                names = {alias.name for alias in node.names}
                if node.module == "sdcore":
                    assert names <= set(sdcore.__all__), path
                else:
                    assert node.module in allowed, path
                    module = importlib.import_module(str(node.module))
                    assert all(hasattr(module, name) and not name.startswith("_") for name in names)
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert ast.unparse(node.value) in ("self", "self._local", "cls"), f"{path}: {ast.unparse(node)}"
