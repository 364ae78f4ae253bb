"""What is specific to this plugin: that its effect is the one that was meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from pydantic import ValidationError
from sdcore import Engine, GenerateRequest
from sdcore.testing.tiny import tiny_folder

from sdcore_template import Template, TemplatePlugin
from sdcore_template.effect import warm

APPLE = GenerateRequest("a red apple", seed=1, steps=2, height=32, width=32)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A small random model of the SD1 family: a run takes milliseconds."""
    with Engine.load(tiny_folder("sd1"), plugins=[TemplatePlugin]) as engine:
        yield engine


def test_warm_moves_red_up_and_blue_down() -> None:
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    assert warm(image, 1.0).getpixel((0, 0)) == (120, 100, 60)
    assert warm(image, 0.0).tobytes() == image.tobytes()


def test_the_picture_is_warmed_only_when_the_plugin_is_used(engine: Engine) -> None:
    plain = engine.generate(APPLE)
    warmed = engine.generate(APPLE.replace(use=[Template(warmth=1.0)]))
    again = engine.generate(APPLE)
    assert warmed.image.tobytes() == warm(plain.image, 1.0).tobytes() != plain.image.tobytes()
    assert again.image.tobytes() == plain.image.tobytes()


def test_words_are_added_to_the_prompt(engine: Engine) -> None:
    added = engine.generate(APPLE.replace(use=[Template(words="flat style", warmth=0.0)]))
    written = engine.generate(APPLE.replace(prompt="a red apple, flat style"))
    assert added.image.tobytes() == written.image.tobytes()


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError, match="warmth"):
        Template(warmth=1.5)
