"""What the embedded model draws: the marked part changes to what the prompt says, and only that part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_inpaint import Inpaint, Outpaint

from sdcore import Engine

STEPS = 12


@pytest.fixture(scope="module")
def apple(mini: Engine) -> Image.Image:
    return mini.generate("a red apple, flat style, white background", seed=7, steps=STEPS).image


def numbers(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


def greenness(image: Image.Image, where: Any) -> float:
    """How many of the pixels are more green than red."""
    pixels = numbers(image)[where]
    return float((pixels[:, 1] > pixels[:, 0] + 30).mean())


def half() -> tuple[Image.Image, Any]:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    return mask, np.asarray(mask) == 255


def test_the_marked_half_becomes_what_the_prompt_says(mini: Engine, apple: Image.Image) -> None:
    mask, inside = half()
    prompt = "a green circle, flat style, white background"
    drawn = mini.generate(prompt, seed=4, steps=STEPS, image=apple, strength=1.0, use=[Inpaint(mask=mask)]).image
    assert np.array_equal(numbers(drawn)[~inside], numbers(apple)[~inside])
    assert greenness(apple, inside) < 0.01
    assert greenness(drawn, inside) > 0.3
    red = mini.generate(
        "a red apple, flat style, white background", seed=4, steps=STEPS, image=apple, strength=1.0,
        use=[Inpaint(mask=mask)],
    ).image  # fmt: skip
    assert greenness(red, inside) < 0.02
    # What is kept guides what is drawn: the halves of an apple fit where they meet, in the outline.
    seam = np.abs(numbers(red)[:, 32] - numbers(red)[:, 31]).mean()
    alone = mini.generate("a red apple, flat style, white background", seed=4, steps=STEPS).image
    pasted = np.abs(numbers(alone)[:, 32] - numbers(apple)[:, 31]).mean()
    assert seam < 25
    assert seam < pasted + 10


def test_only_masked_draws_a_whole_thing_in_a_small_place(mini: Engine, apple: Image.Image) -> None:
    large = apple.resize((160, 160), Image.Resampling.LANCZOS)
    mask = Image.new("L", (160, 160))
    mask.paste(255, (52, 70, 112, 130))
    use = [Inpaint(mask=mask, only_masked=True, padding=6)]
    drawn = mini.generate("a panda, flat style", seed=7, steps=STEPS, image=large, strength=1.0, use=use).image
    inside = np.asarray(mask) == 255
    assert np.array_equal(numbers(drawn)[~inside], numbers(large)[~inside])
    assert (numbers(drawn)[inside].min(axis=1) > 200).mean() > 0.05  # a panda is white and black
    assert (numbers(large)[inside].min(axis=1) > 200).mean() < 0.01


def test_a_differential_mask_grades(mini: Engine, apple: Image.Image) -> None:
    ramp = Image.fromarray(np.repeat(np.linspace(0, 110, 64).round().astype(np.uint8)[None], 64, axis=0))
    prompt = "a green apple, flat style, white background"
    fields: dict[str, Any] = {"seed": 4, "steps": 20, "image": apple, "strength": 1.0}

    def greener(image: Image.Image) -> Any:
        """Green less red, within the apple, in four upright bands."""
        pixels = numbers(image)[20:56, 8:56]
        return (pixels[..., 1] - pixels[..., 0]).mean(axis=0).reshape(4, 12).mean(axis=1)

    graded = mini.generate(prompt, **fields, use=[Inpaint(mask=ramp, softness="differential")]).image
    change = greener(graded) - greener(apple)
    assert change[0] + 10 < change[1]
    assert change[1] + 10 < change[2]
    assert change[2] < change[3]
    # As a soft mask the same grey pulls back towards red in every step.
    soft = mini.generate(prompt, **fields, use=[Inpaint(mask=ramp, softness="soft")]).image
    assert (greener(soft) - greener(apple))[3] < change[3] / 2


def test_outpainting_completes_what_was_cut_off(mini: Engine, apple: Image.Image) -> None:
    left = apple.crop((0, 0, 40, 64))
    drawn = mini.generate(
        "a red apple, flat style, white background", seed=4, steps=STEPS, image=left, strength=1.0,
        use=[Outpaint(right=24, overlap=6)],
    ).image  # fmt: skip
    assert drawn.size == (64, 64)
    assert drawn.crop((0, 0, 34, 64)).tobytes() == left.crop((0, 0, 34, 64)).tobytes()
    new = numbers(drawn)[:, 42:]
    red = (new[..., 0] > 180) & (new[..., 1] < 100)
    white = new.min(axis=2) > 200
    assert red.mean() > 0.2  # it goes on,
    assert red[:, -3:].mean() < 0.3  # and comes to an end,
    assert white[:, -3:].mean() > 0.4  # with background behind it
