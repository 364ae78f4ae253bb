"""Two hundred requests of twenty clients, and the server killed in the middle."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from sdcore.testing.tiny import tiny_folder

CLIENTS, EACH = 20, 10


@pytest.mark.slow
def test_nothing_accepted_is_lost_or_done_twice(process: Callable[[str], Any]) -> None:
    server = process(
        f'model = "{Path(tiny_folder("sd1")).as_posix()}"\n[policies.standard]\nplugins = ["template"]\n'
        "[policies.standard.limits]\nrequests_per_minute = 1000\nqueued_jobs = 10\n"
    )
    keys = server.keys(*(f"client {number}" for number in range(CLIENTS)))
    server.start()

    def connect(number: int) -> httpx.Client:  # one for each: making one takes a while
        headers = {"Authorization": f"Bearer {keys[number]}"}
        return httpx.Client(base_url=server.address, headers=headers, timeout=60)

    accepted: list[dict[str, str]] = [{} for _ in keys]
    repeated: list[str] = []

    def client(number: int) -> None:
        with connect(number) as http:
            for place in range(EACH):
                name, sent = f"{number}-{place}", 0
                body = {
                    "prompt": f"picture {name}",
                    "seed": number * 100 + place,
                    "steps": 1,
                    "height": 32,
                    "width": 32,
                }
                while name not in accepted[number]:  # until somebody says that it is accepted, as any client would
                    try:
                        answer = http.post("/api/jobs", json=body, headers={"Idempotency-Key": name})
                    except httpx.HTTPError:
                        sent += 1
                        time.sleep(0.5)
                        continue
                    assert answer.status_code == 202, answer.text
                    accepted[number][name] = answer.json()["id"]
                if sent:
                    repeated.append(name)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while sum(map(len, accepted)) < CLIENTS * EACH // 2:
        time.sleep(0.01)
    server.end(signal.SIGKILL)
    time.sleep(0.5)
    server.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert repeated, "the server was killed when nobody was waiting for it"

    for number in range(CLIENTS):
        with connect(number) as http:
            deadline = time.monotonic() + 300
            while True:
                jobs = http.get("/api/jobs?limit=1000").json()["jobs"]
                if all(job["ended"] for job in jobs) or time.monotonic() > deadline:
                    break
                time.sleep(0.3)
            assert sorted(job["id"] for job in jobs) == sorted(accepted[number].values())
            assert {job["state"] for job in jobs} == {"done"}, jobs
            pictures = http.get("/api/pictures?limit=200").json()["pictures"]
            assert sorted(picture["seed"] for picture in pictures) == [number * 100 + place for place in range(EACH)]
            assert sorted(picture["job"] for picture in pictures) == sorted(accepted[number].values())
            Image.open(io.BytesIO(http.get(pictures[0]["file"]).content)).load()
    assert len(list((server.folder / "pictures").iterdir())) == CLIENTS * EACH
