"""A bad plugin for every check, which fails that check and no other; a good one, which passes all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdcore.testing.conformance.catalogue import checks
from sdcore.testing.conformance.finding import from_file
from sdcore.testing.conformance.outcome import Report
from sdcore.testing.conformance.running import run_all

HERE = Path(__file__).parent
SAYS = {
    "metadata": "docstring",
    "import": "torch imported; .*; warnings.filters is changed",
    "neutral": "with strength=0 the result",
    "effect": "the same as without it",
    "same-seed": "the second run of the same request",
    "order": "after another request",
    "batch": "the second of a batch of three is not itself",
    "randomness": "global generator of torch",
    "threads": "while another engine ran",
    "weights": "a hook on one is not what it was",
    "errors": "the next run gave something else",
    "dtype": "torch.float32",
    "options": "read back is",
    "record": r"gives a path away: request.use\[0\].options.path",
    "memory": "tensors and pictures are in memory",
    "sizes": "not enough values to unpack",
    "composition": "what another plugin does at text.prompt is lost",
    "cancel": "it is in use",
    "hooks": "not marked with @hookimpl",
    "eject": "UNet2DConditionModel.ready",
    "pickle": "cannot be pickled",
}
"""What each failure says."""


def carried_out(file: Path) -> Report:
    (subject,) = from_file(str(file))
    subject.spec.families = ("sd1",)
    return run_all(subject)


def test_there_is_a_bad_plugin_for_every_check() -> None:
    assert list(SAYS) == list(checks())
    assert {path.stem for path in (HERE / "bad").glob("*.py")} == set(checks())
    assert [check.number for check in checks().values()] == list(range(1, 22))


@pytest.mark.parametrize("name", SAYS)
def test_a_bad_plugin_fails_one_check(name: str) -> None:
    report = carried_out(HERE / "bad" / f"{name}.py")
    failed = {outcome.check: outcome.detail for outcome in report.failed}
    assert list(failed) == [name], failed
    assert re.search(SAYS[name], failed[name]), failed[name]
    for outcome in report.outcomes:
        assert outcome.state != "not run" or "rests on" in outcome.detail or name == "hooks", outcome


def test_a_good_plugin_passes_every_check() -> None:
    report = carried_out(HERE / "good.py")
    assert [(outcome.check, outcome.state) for outcome in report.outcomes] == [(name, "passed") for name in checks()]
