"""What a text encoder knows: nearness to concepts relative to anchors, and the projection."""

from __future__ import annotations

import math

import pytest
import torch
from sdcore_safety import Safety
from sdcore_safety.check import CheckSettings
from sdcore_safety.checks.embedding import BENIGN, EmbeddingCheck, clauses, read_concepts
from sdcore_safety.checks.vectors import Anchors, to_score
from sdcore_safety.encoding import text_vectors
from sdcore_safety.subspace import Subspace

from .conftest import PROMPT, engine_of


def vectors(seed: int, count: int, width: int = 32) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_near_a_concept_scores_high_and_near_an_anchor_low() -> None:
    benign, concepts = vectors(0, 60) + 3, {"violence": vectors(1, 4) + 3}
    anchors = Anchors.build(benign, concepts)
    near = anchors.deviations(concepts["violence"][:1] + 0.1 * vectors(2, 1))["violence"]
    far = anchors.deviations(benign[:1] + 0.1 * vectors(3, 1))["violence"]
    between = anchors.deviations(0.5 * (concepts["violence"][:1] + benign[:1]))["violence"]
    assert to_score(near) > 0.5 > to_score(between) > to_score(far)
    assert to_score(far) < 0.1


def test_it_is_relative_to_the_anchors() -> None:
    """A harmless text right beside a concept pulls the score of its neighbours down."""
    benign, concept = vectors(0, 60), vectors(1, 1)
    text = concept + 0.3 * vectors(4, 1)
    without = Anchors.build(benign, {"x": concept}).deviations(text)["x"]
    with_one = Anchors.build(torch.cat([benign, text + 0.05 * vectors(5, 1)]), {"x": concept}).deviations(text)["x"]
    assert with_one < without - 2


def test_a_nan_stays_a_nan() -> None:
    assert math.isnan(to_score(float("nan")))


def test_texts_are_told_apart_whatever_stands_beside_them() -> None:
    """Encoded without padding, in batches by length: each is what the encoder gives it alone, padded."""
    model = engine_of("sd1").model
    texts = ["a red apple", "a dog", "a photo of a blue house"]
    found = text_vectors(model, texts)
    for text, vector in zip(texts, found, strict=True):
        ids = model.tokenizers[0](text, padding="max_length", return_tensors="pt").input_ids
        end = int((ids[0] == model.tokenizers[0].eos_token_id).nonzero()[0])
        with torch.no_grad():
            wanted = model.text_encoders[0](ids).last_hidden_state[0, end]
        torch.testing.assert_close(vector, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_concepts_themselves_score_highest(family: str) -> None:
    check = EmbeddingCheck(CheckSettings(engine_of(family).model))
    named = read_concepts()
    for category in ("sexual", "violence"):
        assert check.score(named[category][0])[category] > 0.5 > check.score(named[BENIGN][0])[category]


def test_something_among_harmless_words_is_found() -> None:
    check = EmbeddingCheck(CheckSettings(engine_of("sd1").model))
    unsafe = read_concepts()["violence"][0]
    assert check.score(f"a red apple on a table, {unsafe}, watercolour")["violence"] > 0.5
    assert clauses("a, b") == ["a, b", "a", "b"]


def test_nothing_is_too_far_behind_to_be_looked_at() -> None:
    """Behind forty clauses, and within a clause longer than the encoder's window."""
    check = EmbeddingCheck(CheckSettings(engine_of("sd1").model))
    unsafe = read_concepts()["violence"][0]
    harmless = [f"a red apple {number}" for number in range(40)]
    assert check.score(", ".join(harmless))["violence"] < 0.5
    assert check.score(", ".join([*harmless, unsafe]))["violence"] > 0.5
    words = " ".join(["apple"] * 300).split()
    pieces = clauses(" ".join([*words, unsafe]))
    assert any(piece.endswith(unsafe) for piece in pieces)
    assert all(len(piece.split()) <= 40 for piece in pieces)


@pytest.mark.parametrize("text", ["", " "])
def test_a_prompt_without_words_names_nothing(text: str) -> None:
    check = EmbeddingCheck(CheckSettings(model=engine_of("sd1").model))
    assert set(check.score(text).values()) == {0.0}


def test_it_needs_a_model() -> None:
    with pytest.raises(ValueError, match="text encoder of a model"):
        EmbeddingCheck(CheckSettings())


# -- projection -----------------------------------------------------------------------------------------------


def test_what_lies_in_the_subspace_is_taken_out_and_the_rest_stays() -> None:
    benign = vectors(0, 400)
    direction = torch.nn.functional.normalize(vectors(1, 1), dim=1)
    space = Subspace.build(benign.mean(0) + 5 * direction + 0.01 * vectors(2, 6), benign)
    unsafe = benign.mean(0) + 4 * direction
    found, changed = space.remove(torch.cat([unsafe, benign[:50]]), 1.0)
    assert abs(float((found[0] - benign.mean(0)) @ direction[0])) < 0.05
    same = (found[1:] == benign[:50]).all(dim=1)
    assert int(same.sum()) >= 48  # one of a hundred of the harmless ones is unusual by definition
    assert changed == 1 + int((~same).sum())
    half, _ = space.remove(unsafe, 0.5)
    assert float((half[0] - benign.mean(0)) @ direction[0]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_projection_changes_unsafe_prompts_and_reports_it(family: str) -> None:
    engine = engine_of(family)
    safety = Safety(projection=1.0, checks=("blocklist",), action="flag", early=None)
    unsafe = "gore and mutilation"
    plain = engine.generate(unsafe, steps=2, seed=1, use=[safety.model_copy(update={"projection": 0.0})])
    moved = engine.generate(unsafe, steps=2, seed=1, use=[safety])
    assert moved.reports[0]["safety"]["report"]["guidance"]["projected_vectors"] > 0
    assert (plain.latents - moved.latents).abs().max() > 1e-3
    harmless = engine.generate(PROMPT, steps=2, seed=1, use=[safety]).reports[0]["safety"]["report"]["guidance"]
    assert harmless["projected_vectors"] <= 12  # of 76 tokens
