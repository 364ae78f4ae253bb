"""The plugin: what leaves is marked, and nothing gets around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdcore_watermark import Key, Watermark, detect

from sdcore import Engine, PluginError, RequestError
from sdcore.events import Stepped, Warned
from sdcore.images import load_image
from sdcore.picture_files import read_record
from sdcore.testing.tiny import tiny_folder


@pytest.fixture(scope="session")
def tiny() -> Engine:
    return Engine.load(tiny_folder("sd1"), plugins=["watermark"], device="cpu", dtype="float32")


FAST: dict[str, Any] = {"seed": 3, "steps": 1, "height": 128, "width": 128}


def test_every_picture_is_marked_and_the_record_says_so(tiny: Engine, key: Key, key_file: str, tmp_path: Path) -> None:
    result = tiny.generate("a cat", count=2, use=[Watermark(key=key_file, psnr=34)], **FAST)
    payloads = set()
    for image, report in zip(result.images, result.reports, strict=True):
        found = detect(image, key, search="fast")
        assert found.p_value < 1e-6
        told = report["watermark"]
        assert told["key_id"] == key.key_id
        assert told["scheme"] == "spread"
        assert 34.5 > told["psnr"] >= 33.9
        assert told["payload"] == f"{found.payload:08x}"
        payloads.add(told["payload"])
    assert len(payloads) == 2
    saved = result.save(tmp_path / "cat.png")[0]
    assert read_record(saved).metadata["watermark"]["key_id"] == key.key_id
    assert key.generations[0].hex() not in saved.read_bytes().hex()
    assert detect(load_image(saved), key, search="fast").p_value < 1e-6


def test_the_same_request_gives_the_same_picture_and_payload(tiny: Engine, key_file: str, other: Key) -> None:
    first, second = (tiny.generate("a cat", use=[Watermark(key=key_file, latent=True)], **FAST) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.reports == second.reports
    changed = tiny.generate("a dog", use=[Watermark(key=key_file, latent=True)], **FAST)
    assert changed.reports[0]["watermark"]["payload"] != first.reports[0]["watermark"]["payload"]


def test_not_used_is_not_there(tiny: Engine) -> None:
    bare = Engine.load(tiny_folder("sd1"), plugins=(), device="cpu", dtype="float32")
    assert np.array_equal(
        np.asarray(tiny.generate("a cat", **FAST).image), np.asarray(bare.generate("a cat", **FAST).image)
    )


def test_a_given_payload_is_borne(tiny: Engine, key: Key, key_file: str) -> None:
    result = tiny.generate("a cat", use=[Watermark(key=key_file, payload=0xABCD)], **FAST)
    assert detect(result.image, key, search="fast").payload == 0xABCD


def test_latent_output_is_refused_unless_allowed(tiny: Engine, key_file: str) -> None:
    with pytest.raises(RequestError, match="latent_output='allow'"):
        tiny.generate("a cat", output="latent", use=[Watermark(key=key_file)], **FAST)
    allowed = Watermark(key=key_file, latent_output="allow")
    assert tiny.generate("a cat", output="latent", use=[allowed], **FAST).latents is not None


def test_previews_are_refused_unless_allowed(tiny: Engine, key_file: str) -> None:
    def previews(options: Watermark) -> list[Any]:
        seen: list[Any] = []

        def look(event: Any) -> None:
            if isinstance(event, Stepped):
                seen.extend(event.preview())

        tiny.generate("a cat", use=[options], on_event=look, **FAST)
        return seen

    assert previews(Watermark(key=key_file)) == []
    assert previews(Watermark(key=key_file, previews="allow"))


def test_a_policy_shuts_out_what_a_request_says(key: Key, key_file: str) -> None:
    policy = [Watermark(key=key_file, psnr=34)]
    engine = Engine.load(tiny_folder("sd1"), plugins=["watermark"], always=policy, device="cpu", dtype="float32")
    assert detect(engine.generate("a cat", **FAST).image, key, search="fast").p_value < 1e-6
    with pytest.raises(RequestError, match="set by the application"):
        engine.generate("a cat", use=[Watermark(key=key_file, latent_output="allow")], output="latent", **FAST)
    stream = engine.stream("a cat", **FAST)
    for _ in stream:
        pass
    assert detect(stream.result().image, key, search="fast").p_value < 1e-6


def test_problems_come_before_any_work(tiny: Engine, tmp_path: Path, key_file: str) -> None:
    with pytest.raises(RequestError, match="there is no key file"):
        tiny.explain("a cat", use=[Watermark(key=str(tmp_path / "missing.json"))])
    with pytest.raises(RequestError, match="no watermark scheme"):
        tiny.explain("a cat", use=[Watermark(key=key_file, scheme="sprad")])
    with pytest.raises(RequestError, match="used 2 times"):
        tiny.explain("a cat", use=[Watermark(key=key_file), Watermark(key=key_file, psnr=42)])


def test_the_public_key_warns(tiny: Engine) -> None:
    told: list[str] = []
    tiny.generate(
        "a cat", use=[Watermark()], on_event=lambda e: isinstance(e, Warned) and told.append(e.message), **FAST
    )
    assert any("public key" in text for text in told)


def test_a_picture_too_small_is_withheld_or_leaves_with_a_warning(tiny: Engine, key_file: str) -> None:
    small = FAST | {"height": 32, "width": 32}
    with pytest.raises(PluginError, match="unmarkable='allow'"):
        tiny.generate("a cat", use=[Watermark(key=key_file)], **small)
    told: list[str] = []
    result = tiny.generate(
        "a cat",
        use=[Watermark(key=key_file, unmarkable="allow")],
        on_event=lambda event: isinstance(event, Warned) and told.append(event.message),
        **small,
    )
    assert "unmarked" in result.reports[0]["watermark"]
    assert any("without a watermark" in text for text in told)


def test_the_mark_of_the_source_is_told(tiny: Engine, key: Key, key_file: str) -> None:
    first = tiny.generate("a cat", use=[Watermark(key=key_file, payload=5)], **FAST)
    again = {"seed": 3, "steps": 2, "strength": 0.5}
    marked = tiny.generate("a cat", image=first.image, use=[Watermark(key=key_file)], **again)
    assert marked.reports[0]["watermark"]["source_mark"]["payload"] == "00000005"
    plain = tiny.generate("a cat", **FAST)
    unmarked = tiny.generate("a cat", image=plain.image, use=[Watermark(key=key_file)], **again)
    assert "source_mark" not in unmarked.reports[0]["watermark"]


def test_the_mark_comes_after_what_others_do(tiny: Engine, key_file: str) -> None:
    lines = str(tiny.explain("a cat", use=[Watermark(key=key_file)]))
    assert "watermark" in next(line for line in lines.splitlines() if line.startswith("decode.image"))


@pytest.mark.parametrize("wrong", [{"payload": 2**32}, {"payload": -1}, {"psnr": 10}, {"latent_output": "maybe"}])
def test_wrong_options(wrong: dict[str, Any], tiny: Engine) -> None:
    with pytest.raises(RequestError):
        tiny.generate("a cat", use=[{"plugin": "watermark", "options": wrong}], **FAST)
