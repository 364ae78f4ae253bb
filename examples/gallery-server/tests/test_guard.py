"""What strangers may not do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

PATHS = (
    "/etc/passwd",
    "../../gallery.sqlite",
    "env:HOME",
    "~/style.safetensors",
    "https://example.org/style.safetensors",
    "C:\\style.safetensors",
    "owner/name",
    "data:image/png;base64,AAAA",
)


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", PATHS)
def test_no_text_of_a_request_is_opened(idle: Any, path: str) -> None:
    key = idle.key()
    for use in (
        {"plugin": "lora", "options": {"path": path}},
        {"plugin": "inpaint", "options": {"mask": path}},
    ):
        assert error(idle.draw(key, use=[use])) == (403, "path_not_allowed")
    assert error(idle.draw(key, image=path)) == (422, "invalid_request")
    for kind in ("upload", "library"):
        assert error(idle.draw(key, use=[{"plugin": "lora", "options": {"path": {kind: path}}}])) == (404, "not_found")


def test_texts_that_look_like_paths_are_refused_where_no_file_is_meant(idle: Any) -> None:
    key = idle.key()
    assert error(idle.draw(key, use=[{"plugin": "template", "options": {"words": "/etc/passwd"}}]))[0] == 403
    assert idle.draw(key, use=[{"plugin": "template", "options": {"words": "black/white, 1/2"}}]).status_code == 202


@pytest.mark.parametrize(
    ("fields", "status", "code", "word"),
    [
        ({"prompts": "x"}, 422, "invalid_request", "prompts"),
        ({"steps": 51}, 422, "over_limit", "50"),
        ({"steps": "many"}, 422, "invalid_request", "steps"),
        ({"count": 5}, 422, "over_limit", "count"),
        ({"width": 512, "height": 512}, 422, "over_limit", "pixels"),
        ({"prompt": "x" * 5000}, 422, "over_limit", "prompt"),
        ({"use": [{"plugin": "train"}]}, 403, "plugin_not_allowed", "template"),
        ({"use": [{"plugin": "template", "options": {"warmth": 3}}]}, 422, "invalid_request", "warmth"),
        ({"use": [{"plugin": "lora", "options": {"allow_pickle": True}}]}, 403, "option_not_allowed", "allow_pickle"),
        ({"use": "template"}, 422, "invalid_request", "list"),
        ({"output": "latent"}, 422, "invalid_request", "output"),
    ],
)
def test_a_request_beyond_the_rules_is_refused(
    idle: Any, fields: dict[str, Any], status: int, code: str, word: str
) -> None:
    key = idle.key()
    answer = idle.draw(key, **fields)
    if fields.get("width"):
        word = "width x height"
    assert error(answer) == (status, code)
    assert word in answer.json()["error"]["message"]
    assert idle.client.get("/api/jobs", headers=key).json() == {"jobs": []}


def test_a_body_is_json_and_not_too_large(idle: Any) -> None:
    key = {**idle.key(), "Content-Type": "application/json"}
    assert error(idle.client.post("/api/jobs", content=b"{", headers=key)) == (400, "not_json")
    assert error(idle.client.post("/api/jobs", content=b"[" * 100_000, headers=key)) == (400, "not_json")
    assert error(idle.client.post("/api/jobs", content=b" " * 2_000_000, headers=key)) == (413, "too_large")
    assert error(idle.client.post("/api/jobs", content=b"a=b", headers=idle.key("form"))) == (415, "not_json")


def test_limits_of_rate_and_queue_are_per_key(idle: Any) -> None:
    key = idle.key("strict", "strict")
    assert idle.draw(key).status_code == 202
    assert error(idle.draw(key)) == (429, "queue_full")
    assert idle.draw(key).status_code == 429
    answer = idle.draw(key)
    assert error(answer) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert idle.draw(idle.key("another", "strict")).status_code == 202


def test_an_idempotency_key_gives_the_same_job(idle: Any) -> None:
    key = {**idle.key(), "Idempotency-Key": "one"}
    first, second = idle.draw(key), idle.draw(key)
    assert first.json() == second.json()
    assert first.json()["request"]["seed"] >= 0
    assert error(idle.draw(key, prompt="something else")) == (409, "idempotency_key_reused")
    other = {**idle.key("other"), "Idempotency-Key": "one"}
    assert idle.draw(other).json()["id"] != first.json()["id"]


def test_nothing_of_others_can_be_seen(server: Any, key: dict[str, str]) -> None:
    job = server.drawn(key)
    name, other = job["result"]["pictures"][0], server.key("nosy")
    for method, path in (
        ("GET", f"/api/jobs/{job['id']}"),
        ("GET", f"/api/jobs/{job['id']}/events"),
        ("POST", f"/api/jobs/{job['id']}/cancel"),
        ("GET", f"/api/pictures/{name}"),
        ("POST", f"/api/pictures/{name}/replay"),
        ("DELETE", f"/api/pictures/{name}"),
        ("GET", f"/pictures/{name}.png"),
        ("GET", f"/thumbnails/{name}.webp"),
    ):
        assert error(server.client.request(method, path, headers=other)) == (404, "not_found"), path
        assert server.client.request(method, path).status_code == 401, path
    assert server.client.get("/api/pictures", headers=other).json() == {"pictures": []}


@pytest.mark.parametrize("name", ["..%2f..%2fgallery.sqlite", "%2e%2e/gallery", "..%5c..%5cx", "x%00y"])
def test_no_path_leads_out_of_the_folders(idle: Any, name: str) -> None:
    for path in (f"/pictures/{name}.png", f"/static/{name}"):
        assert idle.client.get(path, headers=idle.key(path + name)).status_code in (400, 404)


def test_uploads_are_limited_and_recognised_by_content(idle: Any) -> None:
    key = idle.key()
    for data, expected in (
        (b"#!/bin/sh\necho", (422, "unknown_file")),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, (422, "not_a_picture")),
        (b"\x80\x04pickle", (422, "unknown_file")),
        (b"x" * (17 * 2**20), (413, "too_large")),
    ):
        assert error(idle.client.post("/api/uploads?name=a.png", content=data, headers=key)) == expected
    assert idle.client.get("/api/uploads", headers=key).json() == {"uploads": []}
    assert not [file for file in idle.state.folder.uploads.rglob("*") if file.is_file()]

    chunks = (b"x" * 2**20 for _ in range(17))  # no Content-Length
    assert error(idle.client.post("/api/uploads", content=chunks, headers=key)) == (413, "too_large")


def test_keys_are_not_stored_and_can_be_revoked(idle: Any) -> None:
    key = idle.key("someone")
    secret = key["Authorization"].split("_", 2)[2]
    folder: Path = idle.state.folder.root
    stored = sqlite3.connect(folder / "gallery.sqlite").execute("SELECT * FROM keys").fetchall()
    assert secret not in str(stored)
    assert idle.client.get("/api/me", headers=key).status_code == 200
    assert idle.state.accounts.revoke("someone")
    assert error(idle.client.get("/api/me", headers=key)) == (401, "no_key")
    for wrong in ("Bearer gs_0_x", "Bearer nonsense", "Basic abc"):
        assert idle.client.get("/api/me", headers={"Authorization": wrong}).status_code == 401
    answers = [idle.client.get("/api/me", headers={"Authorization": f"Bearer gs_{n}_x"}).status_code for n in range(30)]
    assert answers[-1] == 429


def test_a_key_whose_policy_is_gone_may_nothing(idle: Any) -> None:
    key = idle.key(policy="gone")
    assert error(idle.client.get("/api/me", headers=key)) == (403, "no_policy")
    assert error(idle.draw(key)) == (403, "no_policy")


def test_a_session_works_from_this_page_only(idle: Any) -> None:
    key = idle.key()["Authorization"].removeprefix("Bearer ")
    own = {"Origin": "http://testserver"}
    assert error(idle.client.post("/api/session", json={"key": key})) == (403, "other_origin")
    assert error(idle.client.post("/api/session", json={"key": "gs_no"}, headers=own)) == (401, "wrong_key")
    answer = idle.client.post("/api/session", json={"key": key}, headers=own)
    assert answer.status_code == 204
    assert {"httponly", "samesite=strict"} <= set(answer.headers["set-cookie"].lower().split("; "))
    assert idle.client.get("/api/me").status_code == 200
    for origin in ({}, {"Origin": "http://evil.example"}):
        assert error(idle.draw(origin)) == (403, "other_origin")
    assert idle.draw(own).status_code == 202
    assert idle.client.delete("/api/session", headers=own).status_code == 204
    assert idle.client.get("/api/me").status_code == 401


def test_every_answer_carries_the_policy_of_the_page(idle: Any) -> None:
    for path in ("/", "/static/app.js", "/api/me", "/nothing"):
        headers = idle.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert error(idle.client.get("/nothing")) == (404, "http_error")
    static = Path(__file__).parents[1] / "src" / "gallery_server" / "static"
    for file in static.iterdir():
        text = file.read_text()
        assert "innerHTML" not in text.replace("without innerHTML", ""), file
        assert "//" not in text.replace("http://www.w3.org", "").replace("// ", ""), f"{file} names an address"
