"""Servers for the tests: in the process, and as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

if any(importlib.util.find_spec(name) is None for name in ("fastapi", "httpx", "gallery_server", "sdcore_watermark")):
    collect_ignore_glob = ["test_*.py"]
else:
    import httpx
    from fastapi.testclient import TestClient
    from gallery_server import Config, create_app
    from gallery_server.accounts import Accounts
    from gallery_server.database import Database
    from gallery_server.limits import Rate
    from gallery_server.state import State

    from sdcore import Contributions, Options, Plugin, Run, Verdict, hookimpl, ports
    from sdcore.stages import Prompt
    from sdcore.testing.tiny import tiny_folder

    class Warden(Options):
        """A policy for tests."""

        locked = True
        word: str = "weapon"

    class WardenPlugin(Plugin):
        """Withholds what is asked for with a word."""

        name = "warden"
        options = Warden

        @hookimpl
        def judge(self, run: Run) -> Contributions:
            (warden,) = run.uses(Warden)

            def judge(prompt: Prompt) -> Verdict:
                asked = warden.word in prompt.positive
                return Verdict("withhold", "weapons are not drawn here") if asked else Verdict("allow")

            return ports.judge_prompt(judge)

    class Server:
        """A server in this process."""

        def __init__(self, app: Any, client: TestClient) -> None:
            self.app, self.client = app, client
            self.state: State = app.state.gallery

        def key(self, name: str = "", policy: str = "open") -> dict[str, str]:
            return {"Authorization": f"Bearer {self.state.accounts.add(name or secrets.token_hex(4), policy)}"}

        def draw(self, key: dict[str, str], **fields: Any) -> httpx.Response:
            body = {"prompt": "a red apple", "steps": 2, "scheduler": "ddim", "height": 64, "width": 64, **fields}
            return self.client.post("/api/jobs", json=body, headers=key)

        def wait(self, key: dict[str, str], job: str, states: tuple[str, ...] = ()) -> dict[str, Any]:
            for _ in range(600):
                found: dict[str, Any] = self.client.get(f"/api/jobs/{job}", headers=key).json()
                if found["ended"] or found["state"] in states:
                    return found
                time.sleep(0.05)
            raise AssertionError(f"job {job} is still {found['state']}")

        def drawn(self, key: dict[str, str], **fields: Any) -> dict[str, Any]:
            answer = self.draw(key, **fields)
            assert answer.status_code == 202, answer.text
            return self.wait(key, answer.json()["id"])

    def config(**limits: int) -> Config:
        rules = {"requests_per_minute": 10_000, "queued_jobs": 50, "pixels": 128 * 128, **limits}
        return Config.model_validate(
            {
                "model": str(tiny_folder("sd1")),
                "library": {"known": "known.safetensors"},
                "policies": {
                    "open": {"plugins": ["template", "lora", "inpaint"], "limits": rules},
                    "strict": {
                        "plugins": ["template"],
                        "always": [{"plugin": "warden"}, {"plugin": "watermark", "options": {"unmarkable": "allow"}}],
                        "limits": {**rules, "requests_per_minute": 3, "queued_jobs": 1, "steps": 3},
                    },
                },
            }
        )

    def serve(folder: Path, *, work: bool = True, **limits: int) -> Iterator[Server]:
        app = create_app(folder, config(**limits), plugins={"warden": WardenPlugin}, work=work)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield Server(app, client)

    @pytest.fixture
    def opened() -> Callable[..., AbstractContextManager[Server]]:
        """Opens a folder, with ``work=False`` for a queue that stands still."""
        return contextmanager(serve)

    @pytest.fixture(scope="module")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """A server that draws."""
        yield from serve(tmp_path_factory.mktemp("gallery"))

    @pytest.fixture(scope="module")
    def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        yield from serve(tmp_path_factory.mktemp("idle"), work=False)

    @pytest.fixture
    def idle(_standing: Server) -> Server:
        """A server whose queue stands still."""
        _standing.state.rate = Rate()
        _standing.client.cookies.clear()
        return _standing

    @pytest.fixture
    def key(server: Server) -> dict[str, str]:
        """The header of a new key of the policy without a policy."""
        return server.key()

    class Process:
        """A server as a process, which can be killed."""

        def __init__(self, folder: Path, toml: str) -> None:
            folder.mkdir()
            (folder / "gallery.toml").write_text(toml)
            self.folder = folder
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = int(free.getsockname()[1])
            self.address = f"http://127.0.0.1:{self.port}"
            self.process: subprocess.Popen[bytes] | None = None

        def keys(self, *names: str) -> list[str]:
            database = Database(self.folder / "gallery.sqlite")
            made = [Accounts(database).add(name, "standard") for name in names]
            database.close()
            return made

        def start(self) -> None:
            command = [sys.executable, "-m", "gallery_server", "serve", "--data", str(self.folder)]
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*command, "--port", str(self.port)],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            with httpx.Client(base_url=self.address) as client:  # one: each makes a TLS context
                for _ in range(600):
                    try:
                        client.get("/healthz").raise_for_status()
                        return
                    except httpx.HTTPError:
                        assert self.process.poll() is None, (self.folder / "log").read_text()
                        time.sleep(0.2)
            raise AssertionError("the server does not start")

        def end(self, how: signal.Signals) -> None:
            if self.process is not None:
                self.process.send_signal(how)
                self.process.wait(timeout=30)
                self.process = None

    @pytest.fixture
    def process(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
        """Makes servers that are processes, and ends them."""
        made: list[Process] = []

        def make(toml: str) -> Process:
            made.append(Process(tmp_path / f"server-{len(made)}", toml))
            return made[-1]

        yield make
        for one in made:
            one.end(signal.SIGKILL)

    @pytest.fixture
    def page() -> Iterator[Any]:
        """A page of a headless Chromium."""
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        path = next((found for name in names if (found := shutil.which(name))), None)
        if path is None:
            pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
        api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            yield browser.new_page(viewport={"width": 1240, "height": 860})
            browser.close()
