"""After the loop: phases of the picture, verdicts, metadata, bytes; and passes of a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sdcore import PluginError, Run, StateKey, Verdict, WeightPatch, Withheld, ports
from sdcore.events import Stepped

from .kit import PICTURE, generate, is_blamed, plugin, same_pictures, stage, watched

PHASES = ("composite", "restore", "safety", "watermark")


def mark(x: int, colour: str) -> Any:
    """A stage that sets one pixel."""

    def act(picture: Any, image: Image.Image) -> Image.Image:
        changed = image.copy()
        changed.putpixel((x, 0), {"red": (255, 0, 0), "blue": (0, 0, 255)}[colour])
        return changed

    return act


def pixels(image: Image.Image, xs: Any = range(4)) -> list[Any]:
    return [image.getpixel((x, 0)) for x in xs]


def test_the_order_of_what_leaves_is_fixed() -> None:
    """6.4: composite, restore, safety, verdict, watermark, metadata, bytes, seal, whoever is named first."""
    log: list[str] = []

    def note(name: str, result: Any = None) -> Any:
        def act(*args: Any) -> Any:
            log.append(name)
            return result(*args) if callable(result) else result

        return act

    plugins = [
        stage("seal", ports.seal, note("seal", lambda args, data: data)),
        stage("bytes", ports.serialize, note("serialize", b"bytes")),
        stage("meta", ports.metadata, note("metadata", {})),
        *(stage(phase, ports.image, note(phase), phase=phase) for phase in PHASES[::-1]),
        stage("judge", ports.judge_image, note("verdict")),
    ]
    expected = ["composite", "restore", "safety", "verdict", "watermark", "metadata", "serialize", "seal"]
    for order in (plugins, plugins[::-1]):
        log.clear()
        generate(*order).pictures[0].encode()
        assert log == expected


def test_phases_win_over_before_and_use() -> None:
    late = stage("late", ports.image, mark(0, "red"), phase="watermark", before=["early"])
    early = stage("early", ports.image, mark(0, "blue"), phase="composite", after=["late"])
    assert pixels(generate(late, early).image, [0]) == [(255, 0, 0)]


def test_the_judge_sees_what_leaves_without_the_watermark() -> None:
    seen: list[Any] = []
    result = generate(
        stage("mark", ports.image, mark(1, "red"), phase="watermark"),
        stage("blur", ports.image, mark(0, "blue"), phase="safety"),
        stage("judge", ports.judge_image, lambda picture, image: seen.append(pixels(image, [0, 1]))),
    )
    assert seen[0][0] == (0, 0, 255)
    assert seen[0][1] != (255, 0, 0)
    assert pixels(result.image, [0, 1]) == [(0, 0, 255), (255, 0, 0)]


def test_the_file_is_exactly_what_the_seal_returned(tmp_path: Path) -> None:
    returned: list[bytes] = []

    def seal(args: Any, data: bytes) -> bytes:
        returned.append(data + args.format.encode() + str(args.record.seed).encode())
        return returned[-1]

    result = generate(stage("seal", ports.seal, seal))
    for suffix in ("png", "jpg", "webp"):
        (path,) = result.save(tmp_path / f"x.{suffix}")
        assert path.read_bytes() == returned[-1]
    assert len(returned) == 3


def test_a_failing_seal_leaves_no_file(tmp_path: Path) -> None:
    result = generate(stage("seal", ports.seal, lambda args, data: 1 / 0))
    with pytest.raises(PluginError, match="ZeroDivisionError") as caught:
        result.save(tmp_path / "x.png")
    is_blamed(caught.value, "seal", ports.seal, None)
    assert list(tmp_path.iterdir()) == []


def test_serialize_sees_picture_format_and_record() -> None:
    given: list[Any] = []

    def write(args: Any) -> bytes:
        given.append(args)
        return b"bytes"

    result = generate(stage("a", ports.serialize, write))
    assert result.pictures[0].encode("jpeg", quality=70) == b"bytes"
    (args,) = given
    assert (args.format, args.quality, args.record) == ("jpeg", 70, result.record)
    assert args.image is result.image


# -- verdicts -------------------------------------------------------------------------------------------


def saying(*severities: Any) -> list[Any]:
    return [
        stage(f"check-{i}", ports.judge_image, lambda picture, image, s=s: s if s is None else Verdict(s, f"said {s}"))
        for i, s in enumerate(severities)
    ]


@pytest.mark.parametrize("severities", [("allow", "flag", None), ("flag", None, "allow")])
def test_flags_are_reported_and_the_picture_leaves(severities: Any) -> None:
    result = generate(*saying(*severities))
    assert [verdict.severity for verdict in result.pictures[0].verdicts] == ["flag"]
    assert result.reports[0]["sdcore"]["verdicts"][0]["reason"] == "said flag"
    assert same_pictures(result, generate())


def test_the_most_severe_verdict_wins() -> None:
    with pytest.raises(Withheld, match="said withhold") as caught:
        generate(*saying("flag", "withhold", "allow"))
    assert [verdict.severity for verdict in caught.value.verdicts] == ["withhold", "flag"]  # type: ignore[attr-defined]
    broken = stage("broken", ports.judge_image, lambda picture, image: 1 / 0)
    with pytest.raises(Withheld, match=r"check of broken .*failed: ZeroDivisionError") as caught:
        generate(*saying("flag", "withhold"), broken)
    assert [verdict.severity for verdict in caught.value.verdicts] == ["error", "withhold", "flag"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("port", [ports.judge_prompt, ports.judge_image, ports.judge_preview], ids=str)
@pytest.mark.parametrize(
    "bad",
    [lambda *args: "fine", lambda *args: True, lambda *args: Verdict("fine"), lambda *args: [Verdict("allow")] * 3],
)
def test_a_check_that_says_nonsense_has_failed(port: Any, bad: Any) -> None:
    with pytest.raises(Withheld, match="failed: "):
        generate(stage("bad", port, bad))


def test_some_pictures_are_withheld_while_others_leave() -> None:
    odd = stage(
        "odd", ports.judge_image, lambda picture, image: Verdict("withhold", "odd") if picture.seed % 2 else None
    )
    result, plain = generate(odd, seed=4, count=3), generate(seed=4, count=3)
    assert result.seeds == [4, 6]
    assert [(one.seed, one.index, one.verdicts[0].reason) for one in result.withheld] == [(5, 1, "odd")]
    assert torch.equal(result.latents, plain.latents[[0, 2]])
    assert [image.tobytes() for image in result.images] == [plain.images[i].tobytes() for i in (0, 2)]


def test_verdicts_on_previews_hold_for_the_picture_and_stop_when_all_are_withheld() -> None:
    def from_step(first: int, which: Any) -> Any:
        def judge(step: Any, x0: Any) -> Any:
            return [Verdict("withhold", "no") if step.index >= first and which(i) else None for i in range(len(x0))]

        return stage("check", ports.judge_preview, judge)

    with watched() as calls:
        result = generate(from_step(1, lambda i: i == 0), seed=4, count=2, steps=4)
    assert (result.seeds, len(result.withheld[0].verdicts), len(calls)) == ([5], 1, 4)
    with watched() as calls, pytest.raises(Withheld):
        generate(from_step(1, lambda i: True), seed=4, count=2, steps=4)
    assert len(calls) == 2


def test_what_is_withheld_is_black_in_previews() -> None:
    shown: list[list[bool]] = []

    def look(event: Any) -> None:
        if isinstance(event, Stepped):
            shown.append([image.getbbox() is None for image in event.preview()])

    judge = stage("check", ports.judge_preview, lambda step, x0: [Verdict("withhold", "no"), None])
    generate(judge, count=2, on_event=look)
    assert shown == [[True, False], [True, False]]


def test_judge_preview_sees_the_predicted_picture() -> None:
    seen: list[Any] = []
    x0s: list[Any] = []
    generate(
        stage("a", ports.judge_preview, lambda step, x0: seen.append(x0)),
        stage("b", ports.prediction, lambda step, x0, predictions: x0s.append(x0), phase="x0"),
    )
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(seen, x0s, strict=True))


# -- whole runs -----------------------------------------------------------------------------------------

PASSES: StateKey[int] = StateKey("passes")


def hires(request: Any, call_next: Any) -> Any:
    """Twice as large: the first picture, drawn again over a larger copy of itself."""
    first = call_next(request)
    large = first.images[0].resize((64, 64))
    return call_next(request.replace(image=large, strength=0.5, height=64, width=64, steps=4))


def test_a_second_pass_draws_over_the_first_and_what_follows_happens_once() -> None:
    log: list[str] = []

    def count(name: str) -> Any:
        return lambda *args: log.append(name)

    counters = [
        stage("step", ports.latents_in, count("step")),
        stage("composite", ports.image, count("composite"), phase="composite"),
        stage("safety", ports.image, count("safety"), phase="safety"),
        stage("judge", ports.judge_image, count("judge")),
        stage("watermark", ports.image, count("watermark"), phase="watermark"),
        stage("meta", ports.metadata, count("metadata")),
    ]
    result = generate(stage("hires", ports.whole_run, hires), *counters)
    assert result.image.size == (64, 64)
    assert log == ["step"] * 2 + ["composite"] + ["step"] * 2 + [
        "composite",
        "safety",
        "judge",
        "watermark",
        "metadata",
    ]
    first = generate()
    by_hand = generate(image=first.image.resize((64, 64)), strength=0.5, height=64, width=64, steps=4)
    assert same_pictures(result, by_hand)


def test_other_plugins_are_active_in_both_passes() -> None:
    style = stage("style", ports.weights, WeightPatch("unet", "conv_out.bias", lambda w: torch.full_like(w, 0.25)))
    result = generate(stage("hires", ports.whole_run, hires), style)
    first = generate(style)
    by_hand = generate(style, image=first.image.resize((64, 64)), strength=0.5, height=64, width=64, steps=4)
    assert same_pictures(result, by_hand)
    assert not same_pictures(result, generate(stage("hires", ports.whole_run, hires)))


def test_the_same_request_twice_is_the_same_picture_twice() -> None:
    outputs: list[Any] = []

    def twice(request: Any, call_next: Any) -> Any:
        outputs.extend([call_next(request), call_next(request)])
        return outputs[0]

    generate(stage("a", ports.whole_run, twice))
    assert torch.equal(outputs[0].latents, outputs[1].latents)


def test_crop_and_paste_lies_outside_of_hires() -> None:
    """6.4: the first in use is the outermost; before= does the same whatever the order in use."""
    log: list[str] = []

    def crop(request: Any, call_next: Any) -> Any:
        log.append("crop")
        output = call_next(request)
        log.append("paste")
        canvas = PICTURE.resize((128, 128))
        canvas.paste(output.images[0], (0, 0))
        return output.replace(images=(canvas,))

    outside = stage("crop", ports.whole_run, crop, before=["hires"])
    for order in ((outside, stage("hires", ports.whole_run, hires)), (stage("hires", ports.whole_run, hires), outside)):
        log.clear()
        assert generate(*order).image.size == (128, 128)
        assert log == ["crop", "paste"]


def test_state_is_private_to_a_run_and_typed() -> None:
    found: list[int] = []

    def hook(run: Run) -> Any:
        run.state[PASSES] = run.state.get(PASSES, 0) + 1
        found.append(run.state[PASSES])
        assert PASSES in run.state
        assert run.state.make(PASSES, lambda: 99) == 1
        with pytest.raises(KeyError, match=r"StateKey\('other'\).*not set in this run"):
            run.state[StateKey("other")]

    for _ in range(2):
        generate(plugin("a", step=hook))
    assert found == [1, 1]


def test_pictures_of_a_batch_are_finished_one_by_one_with_their_place_and_seed() -> None:
    seen: list[tuple[int, int]] = []
    stamp = stage("a", ports.image, lambda picture, image: seen.append((picture.index, picture.seed)))
    generate(stamp, seed=8, count=3, batch_size=2)
    assert seen == [(0, 8), (1, 9), (2, 10)]
