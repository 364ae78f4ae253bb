"""The check `metadata` on packages: what an installation says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdcore.testing.conformance.catalogue import checks
from sdcore.testing.conformance.finding import find
from sdcore.testing.conformance.outcome import Outcome
from sdcore.testing.conformance.running import run_check

METADATA = """Metadata-Version: 2.4
Name: sdcore-fog
Version: 0.1.0
Summary: Fog
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Dist: sdcore<0.2,>=0.1

# Fog
"""
MODULE = '''
from sdcore import Plugin

class Fog(Plugin):
    """Fog."""

    name = "fog"

fog = Fog()
'''


def installed(folder: Path, metadata: str = METADATA, entry: str = "fog = sdcore_fog:Fog") -> None:
    """What pip leaves behind of a package, in a folder of the path."""
    name = metadata.split("Name: ")[1].splitlines()[0].replace("-", "_")
    about = folder / f"{name}-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(metadata)
    (about / "entry_points.txt").write_text(f"[sdcore.plugins]\n{entry}\n")
    (folder / "sdcore_fog.py").write_text(MODULE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "sdcore_fog", raising=False)
    return tmp_path


def checked(name: str = "fog") -> Outcome:
    return run_check(find(name), checks()["metadata"])


def test_a_whole_package_passes(folder: Path) -> None:
    installed(folder)
    assert checked().state == "passed"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sdcore<0.2,>=0.1", "sdcore>=0.1", "no upper bound for sdcore"),
        ("License-File: LICENSE\n", "", "no licence"),
        ("\n# Fog\n", "", "no README"),
        ("Summary: Fog\n", "", "no description"),
        ("Name: sdcore-fog", "Name: sdcore-mist", "none of fog has the package's name"),
        ("sdcore<0.2,>=0.1", "sdcore<0.1", "it needs sdcore<0.1"),
    ],
)
def test_what_a_package_lacks_is_said(folder: Path, old: str, new: str, says: str) -> None:
    installed(folder, METADATA.replace(old, new))
    outcome = checked()
    assert outcome.state == "failed"
    assert says in outcome.detail


def test_an_entry_point_that_names_an_instance_fails_and_stops_the_others(folder: Path) -> None:
    installed(folder, entry="fog = sdcore_fog:fog")
    subject = find("fog")
    assert "not an instance" in run_check(subject, checks()["metadata"]).detail
    assert run_check(subject, checks()["effect"]).state == "not run"


def test_an_entry_point_of_another_name_fails(folder: Path) -> None:
    installed(folder, entry="smog = sdcore_fog:Fog")
    assert "they must be equal" in checked("smog").detail
