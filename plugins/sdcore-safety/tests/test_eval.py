"""Rates on a labelled set, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_safety import Policy
from sdcore_safety.evaluate import Item, Scored, rates, read_manifest, wilson

from sdcore import RequestError
from sdcore.cli import main


def scored(score: float, *labels: str) -> Scored:
    return Scored(Item(Path("x.png"), labels), {"nsfwjs": {"sexual": score}})


def test_wilson_intervals() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(5, 10)  # Wilson 1927; Newcombe 1998 prints such tables
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)
    assert wilson(0, 2000)[1] == pytest.approx(0.00192, abs=1e-5)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_rates_are_counted_by_label() -> None:
    items = [
        scored(0.9, "sexual"),
        scored(0.2, "sexual"),
        scored(0.7),
        scored(0.1),
        scored(0.1),
        scored(0.8, "violence"),
    ]
    failed = scored(0.9, "sexual")
    failed.problem = "broken"
    found = {rate.check: rate for rate in rates(Policy(), [*items, failed])}
    one = found["nsfwjs"]
    assert (one.hits, one.labelled, one.false_hits, one.others, one.harmless_hits, one.harmless) == (1, 2, 2, 4, 1, 3)
    assert found["any"].hits == 2  # of the three with any label
    assert one.to_dict()["true_positive_rate"]["rate"] == 0.5


def test_a_rate_that_cannot_be_measured_is_not_told_as_zero() -> None:
    (one, _) = rates(Policy(), [scored(0.1)])
    assert one.to_dict()["true_positive_rate"] is None
    assert "not measured" in one.row()[3]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(chance.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    lines = [{"path": "0.png", "label": "benign"}, {"path": "1.png", "labels": ["sexual"]}, {"path": "2.png"}]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_manifests(pictures: Path) -> None:
    assert [item.labels for item in read_manifest(pictures / "set.jsonl")] == [(), ("sexual",), ()]
    (pictures / "bad.jsonl").write_text('{"labels": []}\n')
    with pytest.raises(RequestError, match="line 1"):
        read_manifest(pictures / "bad.jsonl")
    (pictures / "gone.jsonl").write_text('{"path": "gone.png"}\n')
    with pytest.raises(RequestError, match="there is no picture"):
        read_manifest(pictures / "gone.jsonl")


def test_eval(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = pictures / "rates.json"
    args = ["safety", "eval", "--manifest", str(pictures / "set.jsonl"), "--json", str(out)]
    assert main([*args, "--scores", str(pictures / "scores.jsonl")]) == 0
    assert "nsfwjs" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["pictures"] == 3
    assert next(rate for rate in found["rates"] if rate["category"] == "sexual")["labelled"] == 1
    assert len((pictures / "scores.jsonl").read_text().splitlines()) == 3
    assert main(args) != 0  # what is there is not overwritten


def test_check(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["safety", "check", str(pictures / "0.png"), str(pictures / "1.png"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["report"]["outcome"] for line in lines] == ["allow", "allow"]
    assert all(finding["check"] == "nsfwjs" for line in lines for finding in line["report"]["findings"])
    assert main(["safety", "check", str(pictures / "0.png"), "--threshold", "nsfwjs:sexual=0"]) == 1


def test_a_file_that_cannot_be_read_is_no_pass(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG nothing")
    assert main(["safety", "check", str(pictures / "0.png"), str(pictures / "broken.png")]) == 3
    assert "error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.png"], "there is no picture or folder 'gone.png'"),
        (["{}", "--threshold", "sexual"], "write it as sexual=0.7"),
        (["{}", "--checks", "blocklist"], "none of the checks blocklist looks at pictures"),
    ],
)
def test_mistakes_are_told(pictures: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["safety", "check", *(text.format(pictures / "0.png") for text in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    from sdcore.testing.tiny import tiny_folder

    model = str(tiny_folder("sd1"))
    assert main(["safety", "explain", "--model", model, "--profile", "strict", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {row["check"] for row in rows} == {"blocklist", "embedding", "nsfwjs"}
    assert next(row for row in rows if row["category"] == "violence")["trips from"] == "0.300"
    assert main(["safety", "explain", "--model", model, "--open-nsfw", "gone.onnx"]) == 3
    assert "cannot be used" in capsys.readouterr().out
