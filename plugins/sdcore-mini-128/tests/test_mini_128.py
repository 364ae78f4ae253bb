"""The package is found, leaves the default to sdcore-mini, and draws what a prompt says, larger."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sdcore_mini
import sdcore_mini_128

from sdcore import Engine
from sdcore.models import installed_models, load_model


def test_is_found_and_is_not_the_default() -> None:
    (found,) = [entry for entry in installed_models() if entry.name == "mini-128"]
    assert (found.error, found.path) == (None, sdcore_mini_128.model_folder())
    assert load_model().source == "mini"


def test_is_small_and_says_nothing_of_where_it_was_made() -> None:
    folder = sdcore_mini_128.model_folder()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 60e6
    for path in folder.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text())


def test_shares_all_but_the_unet() -> None:
    """Adapters of the text encoder and pictures in latents go from one to the other."""
    mine, theirs = sdcore_mini_128.model_folder(), sdcore_mini.model_folder()
    for part in (
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
    ):
        assert (mine / part).read_bytes() == (theirs / part).read_bytes()


@pytest.mark.parametrize(
    ("prompt", "brightest"), [("a red apple, flat style, white background", 0), ("a green apple, 3d style", 1)]
)
def test_draws_what_the_prompt_says(prompt: str, brightest: int) -> None:
    engine = Engine.load("mini-128", plugins=())
    image = engine.generate(prompt, seed=3, steps=12).image
    assert image.size == (128, 128)
    middle = np.asarray(image, dtype=float)[48:80, 48:80].mean((0, 1))
    assert middle.argmax() == brightest
    assert middle[brightest] > middle[2] + 40
