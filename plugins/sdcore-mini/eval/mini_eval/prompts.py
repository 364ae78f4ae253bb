"""The fixed list of prompts: spread over concepts, styles and backgrounds, the same for the same number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mini_recipe.captions import full
from mini_recipe.pictures import colours
from mini_recipe.rng import stream

SEED = 5
FIRST_PICTURE_SEED = 1000


@dataclass(frozen=True)
class Prompt:
    """One prompt and what its picture must show.

    Attributes:
        text: what the model is given.
        concept: name of the thing.
        style: style that the picture must have; the text may call it otherwise.
        colour: name of the background.
        seed: of the picture.
    """

    text: str
    concept: str
    style: str
    colour: str
    seed: int


def make(
    seen: Mapping[tuple[str, str], Sequence[str]], number: int, styles: Sequence[str], names: Mapping[str, str]
) -> list[Prompt]:
    """The list.

    Concepts are taken in a shuffled order, each once before any comes twice. Styles and colours take turns; where
    a concept has no icon of the style, or cannot be seen on the colour, the next one that it has is taken.

    Args:
        seen: backgrounds on which an icon can be seen, by concept and style.
        number: how many prompts.
        styles: words for the styles, as prompts say them.
        names: style that such a word stands for, where it is another.

    Raises:
        ValueError: no icon has any of the styles.
    """
    concepts = sorted({concept for concept, _ in seen})
    stream(SEED, "concepts").shuffle(concepts)
    table = list(colours())
    found: list[Prompt] = []
    for index in range(number * 4):
        if len(found) == number:
            break
        concept = concepts[index % len(concepts)]
        count = len(found)
        turns = [styles[(count + step) % len(styles)] for step in range(len(styles))]
        word = next((word for word in turns if seen.get((concept, names.get(word, word)))), None)
        if word is None:
            continue
        style = names.get(word, word)
        shown = seen[concept, style]
        shifted = [table[(count // len(styles) + count + step) % len(table)] for step in range(len(table))]
        colour = next(colour for colour in shifted if colour in shown)
        found.append(Prompt(full(concept, word, colour), concept, style, colour, FIRST_PICTURE_SEED + count))
    if len(found) < number:
        raise ValueError(f"only {len(found)} of {number} prompts can be made with the styles {', '.join(styles)}")
    return found


#: Prompts off the beaten track, for a sheet to look at: synonyms, descriptions, and words that mean nothing.
FREE = (
    "a kitty, flat style, white background",
    "a car, 3d style, white background",
    "a bunny, noto style, sky blue background",
    "a donut, gradient style, pink background",
    "a burger, flat style, yellow background",
    "a movie camera, line art style, black background",
    "a rusty old lantern, 3d style, white background",
    "a small wooden boat on the sea, noto style, white background",
    "a grumpy dragon, flat style, purple background",
    "a big yellow fish, gradient style, blue background",
    "a zorblax, 3d style, white background",
    "a glimmering quuxfruit, noto style, green background",
    "a cat face left of a red apple, flat style, white background",
    "a rocket above a banana, 3d style, sky blue background",
    "a green heart and a key, noto style, white background",
    "pizza",
    "something beautiful",
    "",
)
