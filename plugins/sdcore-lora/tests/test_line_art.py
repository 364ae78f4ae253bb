"""The style LoRA that ships draws its style on the model that it is for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from sdcore_lora import LoRA

from sdcore import Engine

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example() -> Any:
    pytest.importorskip("sdcore_mini")
    pytest.importorskip("sdcore_train")
    spec = importlib.util.spec_from_file_location("line_art_example", EXAMPLES / "line_art.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_things_that_it_never_saw_become_line_art(example: Any) -> None:
    names = ("guitar", "rose", "lemon", "ship", "money bag", "t-shirt")
    assert all(example.held_out(name) for name in names)
    engine = Engine.load("mini", device="cpu")
    style = LoRA(path=EXAMPLES / "line-art.safetensors")
    ink: dict[str, list[float]] = {"with": [], "without": []}
    for number, name in enumerate(names):
        for kind, use in (("with", [style]), ("without", [])):
            picture = engine.generate(f"an icon of a {name}, white background", seed=number, steps=8, use=use)
            ink[kind].append(example.ink(picture.image))
    assert sum(share >= 0.3 for share in ink["with"]) >= 5, ink
    assert max(ink["without"]) < 0.2, ink
