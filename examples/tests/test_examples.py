"""The examples for script and notebook users run as they stand."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1]
NOTEBOOK = json.loads((EXAMPLES / "notebook.ipynb").read_text())
KEYS = {"code": {"cell_type", "id", "metadata", "source", "outputs", "execution_count"}}
KEYS["markdown"] = {"cell_type", "id", "metadata", "source"}


@pytest.mark.slow
def test_the_script_writes_its_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("compose", EXAMPLES / "compose.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.compose(tmp_path, steps=4)
    said = capsys.readouterr().out
    assert "replayed: identical" in said
    assert "watermark found: True" in said
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 400


def test_the_notebook_is_valid_and_holds_no_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) >= (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert set(cell) == KEYS[cell["cell_type"]]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


@pytest.mark.slow
def test_the_notebook_runs_cell_by_cell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(EXAMPLES)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), namespace)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), cell["id"], "eval"), namespace))
    namespace["engine"].close()
    assert sum(isinstance(one, Image.Image) for one in shown) == 5
    assert capsys.readouterr().out.rstrip().endswith("identical")
