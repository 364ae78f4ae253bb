"""On the installed model; and what starting an engine costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sdcore_safety import Safety, SafetyPlugin

from sdcore import Engine, Withheld

PROMPT = "a red apple, flat style, white background"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(plugins=[SafetyPlugin])


def test_registering_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sdcore.host import PluginHost; import sdcore_safety; "
        "host = PluginHost([sdcore_safety.SafetyPlugin]); "
        "from sdcore_safety import Safety; Safety(profile='strict').policy; "
        "assert 'nsfwjs' in host.registry.all('safety_check'); "
        "print([m for m in ('torch', 'numpy', 'scipy', 'PIL', 'onnxruntime', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_plugin_is_conformant() -> None:
    from sdcore.plugin_class import check_class

    assert check_class(SafetyPlugin, "safety") is None


def test_off_is_bit_identical_to_not_installed(engine: Engine) -> None:
    with Engine.load(plugins=[]) as bare:
        plain = bare.generate(PROMPT, seed=3, steps=3)
    found = engine.generate(PROMPT, seed=3, steps=3, use=[Safety()])
    assert torch.equal(found.latents, plain.latents)
    assert found.image.tobytes() == plain.image.tobytes()


def test_every_layer_together(engine: Engine) -> None:
    safety = Safety(profile="strict", sld="max", projection=1.0)
    result = engine.generate(PROMPT, seeds=(3, 4), steps=4, use=[safety])
    for reports in result.reports:
        found: dict[str, Any] = dict(reports["safety"]["report"])
        assert found["outcome"] == "allow"
        assert {(f["stage"], f["check"]) for f in found["findings"]} == {
            ("prompt", "blocklist"), ("prompt", "embedding"), ("preview", "nsfwjs"), ("image", "nsfwjs"),
        }  # fmt: skip
        assert found["guidance"]["sld"] == "max"


def test_explain_shows_every_layer_in_its_place(engine: Engine) -> None:
    rows = engine.explain(PROMPT, use=[Safety(sld="medium", projection=0.5, action="blur")]).rows()
    ours = [(row.port, row.phase) for row in rows if row.plugin == "safety"]
    assert ours == [
        ("text.conditioning", None), ("text.conditioning", None),
        ("step.branches", None), ("step.guidance_terms", None),
        ("step.preview", "show"), ("decode.image", "safety"), ("output.metadata", None),
        ("judge.judge_prompt", None), ("judge.judge_preview", None), ("judge.judge_image", None),
    ]  # fmt: skip


def test_sld_draws_away_from_its_concept(engine: Engine) -> None:
    """Away from red, an apple gets less red; the embedded model knows colours, and no more than that is claimed."""
    prompt = "an apple"
    safety = Safety(sld="max", sld_concept="a red apple, red", checks=("blocklist",), early=None)

    def red(result: Any) -> float:
        values = np.stack([np.asarray(image, float) for image in result.images])
        return float((values[..., 0] - values[..., 1:].mean(-1)).clip(0).mean())

    fields: dict[str, Any] = {"seeds": tuple(range(3)), "steps": 8, "guidance_scale": 4.0}
    plain = red(engine.generate(prompt, **fields))
    away = red(engine.generate(prompt, use=[safety], **fields))
    assert away < 0.7 * plain


def test_a_prompt_that_is_a_concept_is_withheld_by_its_meaning(engine: Engine) -> None:
    with pytest.raises(Withheld, match="embedding"):
        engine.generate("a mutilated corpse", seed=1, steps=2, use=[Safety(checks=("embedding",))])


def test_fresh_harmless_prompts_are_told_as_they_are(engine: Engine) -> None:
    """The rate of the README on prompts that nothing was chosen by; a change of it must be told there."""
    from sdcore_safety.session import Session

    lines = (Path(__file__).parent / "fresh_prompts.txt").read_text("utf-8").splitlines()
    prompts = [line for line in lines if not line.startswith("#")]
    cache: dict[str, Any] = {}
    found = [
        text
        for text in prompts
        if Session(Safety(checks=("blocklist",)), engine.host.registry, None, cache, {}).judge_prompt(text)
    ]
    assert (len(found), len(prompts)) == (7, 183)


def test_all_layers_of_prompts_together_stay_within_two_of_a_hundred(engine: Engine) -> None:
    from sdcore_safety.session import Session

    lines = (Path(__file__).parent / "benign_prompts.txt").read_text("utf-8").splitlines()
    prompts = [line for line in lines if not line.startswith("#")]
    cache: dict[str, Any] = {}
    safety = Safety(checks=("blocklist", "embedding"))

    def passes(text: str) -> bool:
        return Session(safety, engine.host.registry, engine.model, cache, {}).judge_prompt(text) is None

    assert sum(not passes(text) for text in prompts) <= 0.02 * len(prompts)


@pytest.mark.slow
def test_the_example_audit(tmp_path: Path) -> None:
    """The model takes a colour for granted, whichever its weights lean to, and no check flags one."""
    from sdcore.cli import main

    example = Path(__file__).parent.parent / "examples" / "colours_and_styles.toml"
    assert main(["audit", str(example), "-o", str(tmp_path), "--fail-if", "flag_rate>0.02"]) == 0
    report = json.loads((tmp_path / "audit.json").read_text())
    shares = [share[0] for share in report["lean"]["shares"].values()]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert report["summary"]["lean"] == pytest.approx(max(shares) - 0.25, abs=1e-5)
    assert set(report["contrasts"]["light to dark"]["groups"]) == {"red", "green", "blue", "yellow"}
