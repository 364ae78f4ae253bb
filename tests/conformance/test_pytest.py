"""The class and the fixtures in a pytest of their own, as a plugin's author runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = Path(__file__).parent / "good.py"
TESTS = """
from good import GoodPlugin
from sdcore.testing import PluginConformance

class TestGood(PluginConformance):
    plugin = GoodPlugin
    exceptions = {"hooks": "they are odd"}
"""


def test_the_class_makes_a_test_of_every_check(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD.read_text())
    (tmp_path / "test_good.py").write_text(TESTS)
    asked = [
        "-q",
        "-rfs",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        "-k",
        "cpu-hooks or cpu-metadata",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "test_good.py::TestGood::test_conformance[cpu-hooks]" in done.stdout
    assert "its exception is out of date; remove it (they are odd)" in done.stdout


def test_the_engine_fixture_has_the_plugin_and_nothing_else(sdcore_engine: Callable[..., Any]) -> None:
    from sdcore.testing.parity import Recorder

    engine = sdcore_engine(Recorder, family="sd2")
    assert engine.model.family == "sd2"
    assert list(engine.host.records) == ["recorder"]


def test_the_embedded_engine_fixture_draws(sdcore_embedded_engine: Callable[..., Any]) -> None:
    engine = sdcore_embedded_engine()
    assert engine.generate("a cat", steps=1, seed=1).image.size == (64, 64)


def test_the_report_fixture_takes_a_name_and_says_what_the_command_says(sdcore_conformance: Callable[..., Any]) -> None:
    report = sdcore_conformance("train")
    assert not report.failed
    assert {outcome.state for outcome in report.outcomes} == {"passed", "not applicable"}


def test_the_pytest_plugin_imports_nothing() -> None:
    code = "import pytest, sys; import sdcore.testing.pytest_plugin; print({'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
