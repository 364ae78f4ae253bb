"""The API: jobs, policy, pictures, replay."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

from sdcore import Engine


def events(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def test_a_picture_is_drawn_kept_and_made_again(server: Any, key: dict[str, str]) -> None:
    job = server.drawn(key, seed=3, use=[{"plugin": "template", "options": {"warmth": 0.8}}])
    assert job["state"] == "done", job
    (name,) = job["result"]["pictures"]
    (listed,) = server.client.get("/api/pictures", headers=key).json()["pictures"]
    assert (listed["id"], listed["seed"], listed["prompt"]) == (name, 3, "a red apple")
    data = server.client.get(listed["file"], headers=key).content
    thumbnail = Image.open(io.BytesIO(server.client.get(listed["thumbnail"], headers=key).content))
    assert thumbnail.format == "WEBP"
    engine, _ = server.state.engines.of("open")
    wanted = engine.generate(
        "a red apple",
        seed=3,
        steps=2,
        scheduler="ddim",
        height=64,
        width=64,
        use=[{"plugin": "template", "options": {"warmth": 0.8}}],
    )
    assert Image.open(io.BytesIO(data)).tobytes() == wanted.image.tobytes()
    record = server.client.get(f"/api/pictures/{name}", headers=key).json()["record"]
    assert record["request"]["use"][0]["plugin"] == "template"
    replay = server.client.post(f"/api/pictures/{name}/replay", headers=key).json()
    assert server.wait(key, replay["id"])["result"] == {"picture": name, "identical": True, "differences": []}
    assert server.client.delete(f"/api/pictures/{name}", headers=key).status_code == 204
    assert server.client.get(listed["file"], headers=key).status_code == 404
    assert not server.state.folder.picture(name).exists()


def test_progress_arrives_with_previews_and_goes_on_after_the_last_event(server: Any, key: dict[str, str]) -> None:
    job = server.drawn(key, steps=4)
    path = f"/api/jobs/{job['id']}/events"
    answer = server.client.get(path, headers=key)
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = events(answer.text)
    assert [data["step"] for _, kind, data in seen if kind == "step"] == [1, 2, 3, 4]
    assert any(data.get("preview", "") for _, kind, data in seen if kind == "step")
    assert seen[-1][1] == "state"
    assert seen[-1][2]["state"] == "done"
    numbers = [number for number, _, _ in seen]
    assert numbers == sorted(set(numbers))
    third = next(number for number, kind, data in seen if kind == "step" and data["step"] == 3)
    rest = events(server.client.get(path, headers={**key, "Last-Event-ID": str(third)}).text)
    assert rest == [one for one in seen if one[0] > third]
    assert server.client.get(path, headers={**key, "Last-Event-ID": str(numbers[-1])}).status_code == 204
    server.state.progress._logs.clear()  # as after a restart: the end comes from the database, under the same number
    assert events(server.client.get(path, headers=key).text)[-1] == seen[-1]


def test_a_policy_is_in_every_run_and_out_of_reach(server: Any) -> None:
    key = server.key("strict one", "strict")
    assert server.client.get("/api/me", headers=key).json()["always"] == ["warden", "watermark"]
    answer = server.draw(key, use=[{"plugin": "watermark", "options": {"unmarkable": "allow"}}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "plugin_not_allowed")
    job = server.drawn(key, seed=1)
    assert job["state"] == "done", job
    record = server.client.get(f"/api/pictures/{job['result']['pictures'][0]}", headers=key).json()["record"]
    assert [use["plugin"] for use in record["request"]["use"]] == ["warden", "watermark"]
    assert "watermark" in record["metadata"]
    withheld = server.drawn(key, prompt="a weapon")
    assert withheld["state"] == "withheld"
    assert withheld["result"]["withheld"] == [{"reasons": ["weapons are not drawn here"]}]
    assert len(server.client.get("/api/pictures", headers=key).json()["pictures"]) == 1


def test_engines_of_policies_share_the_weights(server: Any) -> None:
    one: Engine = server.state.engines.of("open")[0]
    other: Engine = server.state.engines.of("strict")[0]
    assert one is not other
    assert one.model.unet is other.model.unet


def test_a_replay_knows_the_policy_of_now(server: Any) -> None:
    key = server.key("strict replay", "strict")
    job = server.drawn(key, seed=5)
    (name,) = job["result"]["pictures"]
    replay = server.client.post(f"/api/pictures/{name}/replay", headers=key).json()
    assert server.wait(key, replay["id"])["result"]["identical"]


def test_a_running_job_is_cancelled(server: Any, key: dict[str, str]) -> None:
    running = server.draw(key, steps=50, count=4, height=128, width=128).json()
    queued = server.draw(key).json()
    assert server.client.post(f"/api/jobs/{queued['id']}/cancel", headers=key).json()["state"] == "cancelled"
    server.wait(key, running["id"], ("running",))
    server.client.post(f"/api/jobs/{running['id']}/cancel", headers=key)
    assert server.wait(key, running["id"])["state"] == "cancelled"
    assert server.drawn(key)["state"] == "done"
    assert server.client.get("/api/jobs", headers=key).json()["jobs"][1]["state"] == "cancelled"


def test_an_upload_is_redrawn_under_a_mask(server: Any, key: dict[str, str]) -> None:
    references = []
    for colour, name in (("red", "photo.png"), ("white", "../../mask.png")):
        stream, picture = io.BytesIO(), Image.new("RGB", (64, 64))
        picture.paste(colour, (0, 0, 32, 64))
        picture.save(stream, "PNG")
        answer = server.client.post(f"/api/uploads?name={name}", content=stream.getvalue(), headers=key)
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"] == name.rpartition("/")[2]
        references.append({"upload": answer.json()["id"]})
    photo, mask = references
    job = server.drawn(
        key, width=None, height=None, image=photo, strength=1, use=[{"plugin": "inpaint", "options": {"mask": mask}}]
    )
    assert job["state"] == "done", job
    record = server.client.get(f"/api/pictures/{job['result']['pictures'][0]}", headers=key).json()["record"]
    assert str(server.state.folder.root) not in json.dumps(record)
    replay = server.client.post(f"/api/pictures/{job['result']['pictures'][0]}/replay", headers=key).json()
    assert server.wait(key, replay["id"])["result"]["identical"]
    other = server.key("other uploader")
    assert server.draw(other, image=photo).status_code == 404


def test_a_failed_job_says_why_without_paths(server: Any, key: dict[str, str]) -> None:
    stored = server.client.post(
        "/api/uploads?name=style.safetensors", content=(2).to_bytes(8, "little") + b"{}", headers=key
    )
    use = [{"plugin": "lora", "options": {"path": {"upload": stored.json()["id"]}}}]
    job = server.drawn(key, use=use)
    assert job["state"] == "failed"
    assert job["message"]
    assert str(server.state.folder.root) not in job["message"]


def test_plugins_come_with_schemas_that_say_what_is_a_file(server: Any, key: dict[str, str]) -> None:
    found = {one["name"]: one for one in server.client.get("/api/plugins", headers=key).json()["plugins"]}
    assert set(found) == {"template", "lora", "inpaint"}
    properties = found["lora"]["schema"]["properties"]
    assert properties["path"]["format"] == "asset"
    assert "format" not in properties["weight"]
    assert "allow_pickle" not in properties
