"""What is wrong with a wheel is found; the template's has nothing wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from .wheels import ROOT, Wheel, build, problems

TEMPLATE = ROOT / "plugin_template"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build(TEMPLATE, tmp_path_factory.mktemp("wheels"))


def test_the_wheel_of_the_template(template: Wheel) -> None:
    assert problems(template, template.metadata["Version"]) == []
    assert template.plugins == {"template": "sdcore_template:TemplatePlugin"}


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("METADATA", "Version: 0.1.0", "Version: 0.0.9", "its version is 0.0.9"),
        ("METADATA", "Requires-Python: >=3.11", "Requires-Python: >=3.9", "the others say >=3.11"),
        ("METADATA", "sdcore<0.2,>=0.1", "sdcore", "all are pinned to >=0.1,<0.2"),
        ("METADATA", "Requires-Dist: sdcore<0.2,>=0.1\n", "", "does not depend on sdcore"),
        ("METADATA", "License-Expression: Apache-2.0", "License: MIT", "not Apache-2.0"),
        ("METADATA", "Requires-Dist: pillow>=10.3", "Requires-Dist: torch==2.4", "libraries give a floor"),
        ("METADATA", "Requires-Dist: pydantic>=2.10\n", "", "imports pydantic, which its dependencies do not name"),
        ("entry_points.txt", "template =", "other =", "has the name of the package"),
        ("entry_points.txt", "[sdcore.plugins]", "[sdcore.plugins]\nb = c:D", "it brings 2 plugins"),
        ("entry_points.txt", "sdcore_template:", "elsewhere:", "leads to elsewhere:"),
        ("py.typed", None, None, "sdcore_template/py.typed is missing"),
        ("effect.py", None, None, "sdcore_template/effect.py is missing"),
        ("LICENSE", None, None, "it holds the licence files []"),
        (None, None, "tests/test_x.py", "outside its own package"),
        (None, None, "sdcore_template/__pycache__/x.pyc", "which no user needs"),
    ],
)
def test_what_is_wrong_is_named(
    template: Wheel, tmp_path: Path, file: str | None, old: str | None, new: str | None, told: str
) -> None:
    bad = tmp_path / template.path.name
    with zipfile.ZipFile(template.path) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if file is None or not name.endswith(f"/{file}"):
                target.writestr(name, data)
            elif old is not None:
                text = data.decode()
                assert old in text
                target.writestr(name, text.replace(old, new or ""))
        if file is None:
            target.writestr(str(new), b"")
    found = problems(Wheel(bad, TEMPLATE), template.metadata["Version"])
    assert any(told in problem for problem in found), found
