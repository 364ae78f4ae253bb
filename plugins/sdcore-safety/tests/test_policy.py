"""What happens to pictures: blocked, blurred or flagged; a check that fails withholds; a policy cannot be weakened."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_safety import Safety, SafetyPlugin
from sdcore_safety.check import CheckSettings
from sdcore_safety.checks.nsfwjs import WEIGHTS, NsfwjsCheck

from sdcore import Engine, RequestError, Withheld
from sdcore.events import Finished, Stepped
from sdcore.testing.tiny import tiny_folder

from .conftest import PROMPT, Behaviour, Company, Watcher, engine_of

WATCH: dict[str, Any] = {"checks": ("watcher",), "early": None}


def report(result: Any, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = dict(result.reports[index]["safety"]["report"])
    return found


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_harmless_picture_leaves_with_every_score(behave: type[Behaviour], family: str) -> None:
    result = engine_of(family).generate(PROMPT, steps=2, seed=1, use=[Safety(checks=("blocklist", "watcher"))])
    found = report(result)
    assert found["outcome"] == "allow"
    stages = {(f["stage"], f["check"]) for f in found["findings"]}
    assert stages == {("prompt", "blocklist"), ("preview", "watcher"), ("image", "watcher")}
    one = next(f for f in found["findings"] if f["stage"] == "image")
    assert one == {
        "stage": "image", "check": "watcher", "version": "7", "weights_sha256": None, "category": "violence",
        "score": 0.0, "threshold": 0.5, "margin": 0.5, "tripped": False,
    }  # fmt: skip


def test_the_report_is_in_the_file_and_its_hash_is_its_own(behave: type[Behaviour], tmp_path: Path) -> None:
    from sdcore.picture_files import read_record

    engine = engine_of("sd1")
    results = [engine.generate(PROMPT, steps=2, seed=1, use=[Safety(**WATCH)]) for _ in range(2)]
    results[0].save(tmp_path / "a.png")
    found = read_record(tmp_path / "a.png").metadata["safety"]
    text = json.dumps(found["report"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == found["report_sha256"]
    assert results[1].reports[0]["safety"] == results[0].reports[0]["safety"]  # nothing of time or place in it


def test_block_withholds_and_tells_why(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.75})
    with pytest.raises(Withheld, match=r"watcher gives 0\.750, from 0\.5 on") as caught:
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[Safety(**WATCH)])
    verdict: Any = caught.value.verdicts[0]
    assert verdict.severity == "withhold"
    assert verdict.details["report"]["findings"][-1]["margin"] == -0.25


def test_only_what_trips_is_withheld(behave: type[Behaviour]) -> None:
    first: list[bytes] = []

    def one_of_two(image: Image.Image) -> dict[str, float]:
        first.append(image.tobytes())
        return {"violence": 1.0 if image.tobytes() == first[0] else 0.0}

    behave.image = staticmethod(one_of_two)
    result = engine_of("sd1").generate(PROMPT, steps=2, seeds=(1, 2), use=[Safety(**WATCH)])
    assert [picture.seed for picture in result.pictures] == [2]
    assert [picture.seed for picture in result.withheld] == [1]


def test_flag_returns_the_picture_unchanged_and_reported(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    engine = engine_of("sd1")
    plain = engine.generate(PROMPT, steps=2, seed=1).image
    result = engine.generate(PROMPT, steps=2, seed=1, use=[Safety(action="flag", **WATCH)])
    assert result.image.tobytes() == plain.tobytes()
    assert report(result)["outcome"] == "flag"
    assert result.pictures[0].verdicts[0].severity == "flag"


def test_blur_leaves_nothing_to_recognise(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    engine = engine_of("sd1")
    plain = np.asarray(engine.generate(PROMPT, steps=2, seed=1).image, float)
    result = engine.generate(PROMPT, steps=2, seed=1, use=[Safety(action="blur", **WATCH)])
    found = np.asarray(result.image, float)
    assert report(result)["outcome"] == "blur"
    assert found.shape == plain.shape
    assert np.abs(found.mean((0, 1)) - plain.mean((0, 1))).max() < 8  # a picture of the same colours, not a black one

    def detail(values: np.ndarray[Any, Any]) -> float:
        return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())

    assert detail(found) < 0.15 * detail(plain)
    assert result.latents.isnan().all()  # from which the sharp picture could be decoded


def test_a_prompt_that_trips_under_blur_gives_a_blurred_picture(behave: type[Behaviour]) -> None:
    behave.prompt = staticmethod(lambda text: {"violence": 1.0})
    result = engine_of("sd1").generate(
        PROMPT, steps=2, seed=1, use=[Safety(checks=("reader", "watcher"), action="blur", early=None)]
    )
    assert report(result)["outcome"] == "blur"


def test_the_prompt_is_judged_before_anything_is_computed(behave: type[Behaviour]) -> None:
    steps: list[Any] = []
    with pytest.raises(Withheld, match="sexual in the prompt"):
        engine_of("sd1").generate(
            "a n4ked man", steps=2, seed=1, use=[Safety(checks=("blocklist",))], on_event=steps.append
        )
    assert not any(isinstance(event, Stepped) for event in steps)


def test_a_negative_prompt_that_names_what_is_unwanted_is_no_offence(behave: type[Behaviour]) -> None:
    """It keeps nudity away; and where guidance would draw it, it is not drawn at all."""
    fields: dict[str, Any] = {"steps": 2, "seed": 1, "use": [Safety(checks=("blocklist", "watcher"))]}
    result = engine_of("sd1").generate(PROMPT, negative_prompt="nude, naked, gore", **fields)
    assert report(result)["outcome"] == "allow"
    with pytest.raises(RequestError, match="guidance_scale"):
        engine_of("sd1").generate(PROMPT, negative_prompt="naked", guidance_scale=-7, **fields)
    alike = [
        engine_of("sd1").generate(PROMPT, negative_prompt=text, guidance_scale=0, **fields).latents
        for text in ("naked", "")
    ]
    assert (alike[0] == alike[1]).all()


def test_the_early_check_ends_the_run_at_its_step(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 1.0})
    steps: list[int] = []
    with pytest.raises(Withheld, match="violence in the preview"):
        engine_of("sd1").generate(
            PROMPT, steps=8, seed=1, scheduler="ddim", use=[Safety(checks=("watcher",), early=0.5)],
            on_event=lambda event: steps.append(event.step.index) if isinstance(event, Stepped) else None,
        )  # fmt: skip
    assert steps == [0, 1, 2]  # the fourth of eight steps was judged, and not shown
    assert len(behave.seen) == 1


def test_the_worst_of_several_checks_counts(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    with pytest.raises(Withheld, match="watcher"):
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[Safety(checks=("nsfwjs", "watcher"), early=None)])


@pytest.mark.parametrize(
    ("options", "trips"),
    [
        ({"profile": "standard"}, False),
        ({"profile": "strict"}, True),
        ({"thresholds": {"violence": 0.35}}, True),
        ({"thresholds": {"violence": 0.35, "watcher:violence": 0.6}}, False),
        ({"profile": "strict", "thresholds": {"violence": None}}, False),
    ],
)
def test_thresholds(behave: type[Behaviour], options: dict[str, Any], trips: bool) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.4})
    engine = engine_of("sd1")
    result = engine.generate(PROMPT, steps=2, seed=1, use=[Safety(action="flag", **WATCH, **options)])
    assert (report(result)["outcome"] == "flag") is trips


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({"sexaul": 0.3}, "a threshold for 'sexaul'.*Did you mean 'sexual'"),
        ({"nsfwjs:sexual": 0.3}, "a threshold for 'nsfwjs:sexual', which none of its checks judges"),
        ({"watcher:sexual": 0.3}, "a threshold for 'watcher:sexual'"),
    ],
)
def test_a_threshold_of_nothing_is_refused(thresholds: dict[str, float], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        engine_of("sd1").generate(PROMPT, steps=1, use=[Safety(thresholds=thresholds, **WATCH)])


def test_research_flags() -> None:
    result = engine_of("sd1").generate(
        "a naked man", steps=2, seed=1, use=[Safety(checks=("blocklist",), profile="research")]
    )
    assert report(result)["outcome"] == "flag"


# -- fails closed ---------------------------------------------------------------------------------------------


def _raise(_: Any) -> Any:
    raise RuntimeError("no driver")


def _sleep(_: Any) -> Any:
    time.sleep(5)


FAULTS = {
    "exception": (_raise, "RuntimeError: no driver"),
    "nan": (lambda _: {"violence": float("nan")}, "nan, expected 0 to 1"),
    "infinite": (lambda _: {"violence": float("inf")}, "inf, expected 0 to 1"),
    "text": (lambda _: {"violence": "low"}, "not a number"),
    "none": (lambda _: None, "expected a mapping"),
    "late": (_sleep, "no answer within 0.2 seconds"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["image", "prompt", "preview"])
def test_a_check_that_fails_withholds(behave: type[Behaviour], fault: str, where: str) -> None:
    work, said = FAULTS[fault]
    setattr(behave, "prompt" if where == "prompt" else "image", staticmethod(work))
    checks = ("reader",) if where == "prompt" else ("watcher",)
    safety = Safety(checks=checks, early=0.5 if where == "preview" else None, timeout=0.2, action="flag")
    with pytest.raises(Withheld) as caught:
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[safety])
    verdict: Any = caught.value.verdicts[0]
    assert verdict.severity == "error"
    assert said in verdict.reason
    assert verdict.details["report"]["outcome"] == "error"
    assert verdict.details["report"]["failures"][0]["stage"] == where


def test_a_check_that_leaves_a_picture_out_withholds(behave: type[Behaviour], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watcher, "score_many", lambda self, images: [{"violence": 0.0}] * (len(images) - 1))
    with pytest.raises(Withheld, match="it gave 0 scores for 1 pictures"):
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[Safety(**WATCH)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"checks": ("broken",)}, "weights.safetensors is missing"),
        ({"checks": ("no-check",)}, "must be a PromptCheck or an ImageCheck"),
        ({"checks": ("nsfwjs",), "settings": {"nsfwjs": {"path": "gone.safetensors"}}}, "gone.safetensors"),
        ({"checks": ("open-nsfw",)}, "it needs Safety(open_nsfw="),
        ({"checks": ("blocklist",), "clip_checker": "gone"}, "gone"),
        ({"checks": ("blocklist",), "words": "gone.txt"}, "gone.txt"),
    ],
)
def test_weights_that_are_missing_withhold_before_anything_is_computed(
    behave: type[Behaviour], options: dict[str, Any], said: str
) -> None:
    events: list[Any] = []
    with pytest.raises(Withheld) as caught:
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[Safety(**options)], on_event=events.append)
    assert said in str(caught.value)
    assert caught.value.verdicts[0].severity == "error"  # type: ignore[attr-defined]
    assert not any(isinstance(event, Stepped) for event in events)


def test_altered_weights_withhold(tmp_path: Path) -> None:
    data = bytearray(WEIGHTS.read_bytes())
    data[-1] ^= 1
    (tmp_path / "altered.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="SHA-256"):
        NsfwjsCheck(CheckSettings(values={"path": tmp_path / "altered.safetensors"}))
    settings = {"nsfwjs": {"path": str(tmp_path / "altered.safetensors")}}
    with pytest.raises(Withheld, match="has SHA-256"):
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[Safety(checks=("nsfwjs",), settings=settings)])


def test_an_override_needs_a_reason_and_leaves_a_trace(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(_raise)
    with pytest.raises(ValueError, match="give an override_reason"):
        Safety(on_error="allow", override_reason="  ")
    safety = Safety(on_error="allow", override_reason="staging, ticket 12", **WATCH)
    result = engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[safety])
    found = result.reports[0]["safety"]
    assert found["report"]["outcome"] == "flag"
    wanted = {
        "stage": "image",
        "check": "watcher",
        "problem": "RuntimeError: no driver",
        "reason": "staging, ticket 12",
    }
    assert found["overrides"] == found["report"]["overrides"] == [wanted]
    assert "overridden: staging, ticket 12" in result.pictures[0].verdicts[0].reason
    assert result.record.metadata["safety"]["overrides"] == [wanted]


def test_an_override_does_not_let_pass_what_trips(behave: type[Behaviour]) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    safety = Safety(on_error="allow", override_reason="x", **WATCH)
    with pytest.raises(Withheld, match="watcher"):
        engine_of("sd1").generate(PROMPT, steps=2, seed=1, use=[safety])


# -- the application's policy ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded_engine() -> Engine:
    return Engine.load(tiny_folder("sd1"), plugins=[SafetyPlugin, Company], always=[Safety(checks=("watcher",))])


def test_a_request_cannot_weaken_the_policy(behave: type[Behaviour], guarded_engine: Engine) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    with pytest.raises(RequestError, match="set by the application"):
        guarded_engine.generate(PROMPT, steps=2, use=[Safety(action="flag", checks=("watcher",))])
    with pytest.raises(Withheld):
        guarded_engine.generate(PROMPT, steps=2)
    stream = guarded_engine.stream(PROMPT, steps=2)
    events: list[Any] = []
    with pytest.raises(Withheld):
        events.extend(stream)
    assert not [event for event in events if isinstance(event, Finished)]
    with pytest.raises(Withheld):
        stream.result()


def test_latents_cannot_carry_out_what_nobody_judged(behave: type[Behaviour], guarded_engine: Engine) -> None:
    behave.image = staticmethod(lambda image: {"violence": 0.9})
    with pytest.raises((RequestError, Withheld)):
        guarded_engine.generate(PROMPT, steps=2, output="latent")


def test_latents_that_nobody_judges_are_told_of(behave: type[Behaviour]) -> None:
    from sdcore.events import Warned

    said: list[str] = []
    engine_of("sd1").generate(
        PROMPT, steps=2, output="latent", use=[Safety(checks=("watcher",))],
        on_event=lambda event: said.append(event.message) if isinstance(event, Warned) else None,
    )  # fmt: skip
    assert any("not what will be decoded" in text for text in said)


def test_two_policies_in_one_run_are_refused() -> None:
    with pytest.raises(RequestError, match="given 2 times"):
        engine_of("sd1").generate(PROMPT, steps=2, use=[Safety(), Safety(profile="research")])


def test_an_unknown_check_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"there is no safety check 'nsfw'.*nsfwjs"):
        engine_of("sd1").generate(PROMPT, steps=2, use=[Safety(checks=("nsfw",))])


# -- previews -------------------------------------------------------------------------------------------------


def previews(engine: Engine, safety: Safety, steps: int = 6) -> list[np.ndarray[Any, Any]]:
    shown: list[np.ndarray[Any, Any]] = []

    def look(event: Any) -> None:
        if isinstance(event, Stepped):
            shown.extend(np.asarray(image, float) for image in event.preview())

    engine.generate(PROMPT, steps=steps, seed=1, scheduler="ddim", use=[safety], on_event=look)
    return shown


def test_previews_are_coarse_until_the_early_check_has_passed(behave: type[Behaviour]) -> None:
    engine = engine_of("sd1")
    shown = previews(engine, Safety(checks=("watcher",), previews="show"))
    coarse = previews(engine, Safety(checks=("watcher",)))
    assert [bool(np.array_equal(a, b)) for a, b in zip(shown, coarse, strict=True)] == [False] * 2 + [True] * 4
    judged = behave.seen[0]  # the check has seen the picture itself, not the fields
    assert np.array_equal(np.asarray(behave.seen[2]), np.asarray(judged))


def test_previews_stay_coarse_without_an_early_check(behave: type[Behaviour]) -> None:
    engine = engine_of("sd1")
    shown = previews(engine, Safety(checks=("watcher",), previews="show", early=None))
    coarse = previews(engine, Safety(checks=("watcher",), early=None))
    assert not any(np.array_equal(a, b) for a, b in zip(shown, coarse, strict=True))


def test_previews_off(behave: type[Behaviour]) -> None:
    assert previews(engine_of("sd1"), Safety(checks=("watcher",), previews="off")) == []
