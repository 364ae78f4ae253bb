"""``sdcore explain --trace`` and ``sdcore generate --trace FILE``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdcore.images import load_image

Cli = Callable[..., tuple[int, str, str]]
SMALL = ("--steps", "2", "--seed", "1", "--no-plugins")


def test_explain_traces_and_draws(cli: Cli, model: str, glow: Path) -> None:
    flags = ("--model", model, *SMALL, "--plugin", glow, "--use", "glow")
    code, out, err = cli("explain", "a cat", *flags, "--trace", "--trace-picture", "trace.png")
    assert (code, err) == (0, "")
    assert "changed most: glow 0." in out
    assert out.splitlines()[-1] == "trace.png"
    assert load_image("trace.png").width == 1280
    assert sorted(path.name for path in Path().iterdir()) == ["glow.py", "trace.png"]
    code, out, _ = cli("explain", "a cat", *flags, "--trace", "--json")
    assert code == 0
    assert json.loads(out)["trace"]["changes"][0]["plugin"] == "glow"
    code, out, err = cli("explain", "a cat", *flags, "--trace-picture", "trace.png")
    assert code == 1
    assert "trace.png" in err


@pytest.mark.parametrize("name", ["t.json", "t.txt", "t.png"])
def test_generate_writes_a_trace(draw: Callable[..., list[str]], glow: Path, name: str) -> None:
    lines = draw("--seed", "1", "--no-plugins", "--plugin", glow, "--use", "glow", "-o", "cat.png", "--trace", name)
    assert lines == ["cat.png", name]
    if name == "t.json":
        assert {row["plugin"] for row in json.loads(Path(name).read_text())["rows"]} == {"core", "glow"}
    elif name == "t.txt":
        assert Path(name).read_text().startswith("plugin ")


def test_a_trace_of_another_kind_is_refused_before_anything_is_loaded(cli: Cli) -> None:
    code, out, err = cli("generate", "a cat", "--model", "nowhere", "--trace", "t.gif")
    assert (code, out) == (2, "")
    assert "t.gif" in err
