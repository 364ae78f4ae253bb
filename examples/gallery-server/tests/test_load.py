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
    accepted: list[dict[str, str]] = [{} for _ in keys]
    repeated: list[str] = []

    def client(number: int) -> None:
        header = {"Authorization": f"Bearer {keys[number]}"}
        for place in range(EACH):
            name = f"{number}-{place}"
            body = {"prompt": f"picture {name}", "seed": number * 100 + place, "steps": 1, "height": 32, "width": 32}
            sent = 0
            while name not in accepted[number]:  # until somebody says that it is accepted, as any client would
                try:
                    answer = httpx.post(
                        f"{server.address}/api/jobs", json=body, headers={**header, "Idempotency-Key": name}, timeout=30
                    )
                except httpx.HTTPError:
                    sent += 1
                    time.sleep(0.2)
                    continue
                if answer.status_code == 429:
                    time.sleep(0.2)
                    continue
                assert answer.status_code == 202, answer.text
                accepted[number][name] = answer.json()["id"]
            if sent:
                repeated.append(name)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    first = {"Authorization": f"Bearer {keys[0]}"}
    while sum(map(len, accepted)) < CLIENTS * EACH // 2:
        time.sleep(0.01)
    server.end(signal.SIGKILL)
    time.sleep(0.5)
    server.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert repeated, "the server was killed when nobody was waiting for it"

    for number, key in enumerate(keys):
        header = {"Authorization": f"Bearer {key}"}
        deadline = time.monotonic() + 150
        while True:
            jobs = httpx.get(f"{server.address}/api/jobs?limit=1000", headers=header).json()["jobs"]
            if all(job["ended"] for job in jobs) or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        assert {job["id"] for job in jobs} == set(accepted[number].values())
        assert {job["state"] for job in jobs} == {"done"}, jobs
        assert len(jobs) == EACH
        pictures = httpx.get(f"{server.address}/api/pictures?limit=200", headers=header).json()["pictures"]
        assert sorted(picture["seed"] for picture in pictures) == [number * 100 + place for place in range(EACH)]
        assert sorted(picture["job"] for picture in pictures) == sorted(accepted[number].values())
        for picture in pictures[:2]:
            data = httpx.get(f"{server.address}{picture['file']}", headers=header).content
            Image.open(io.BytesIO(data)).load()
    files = list((server.folder / "pictures").iterdir())
    assert len(files) == CLIENTS * EACH
    assert httpx.get(f"{server.address}/api/me", headers=first).status_code == 200
