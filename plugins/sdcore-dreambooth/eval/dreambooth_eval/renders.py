"""Icons as pictures: the held-out subjects, other icons to tell them from, each turned, scaled and on a colour."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

RECIPE = Path(__file__).resolve().parents[3] / "sdcore-mini" / "recipe"
TRAINED_ON = ("white", "yellow", "sky blue", "pink", "green")
"""Backgrounds of the pictures that a subject is learnt from; the others are new to it."""
TURNS, SHARES = (-14, -7, 0, 7, 14), (0.72, 0.84, 0.78, 0.88, 0.75)
"""Degrees and shares of the picture's side, one for each of a subject's pictures."""


@dataclass(frozen=True)
class Icon:
    """A thing with its icons by style: RGBA, 256x256."""

    name: str
    kind: str
    icons: Mapping[str, Image.Image]


def recipe() -> Any:
    """The modules of the data recipe of the embedded model."""
    if str(RECIPE) not in sys.path:
        sys.path.insert(0, str(RECIPE))
    from mini_recipe import concepts, dataset, icons, pictures, rng, sources

    class Recipe:
        """What is used of them."""

    found: Any = Recipe
    found.concepts, found.dataset, found.icons = concepts, dataset, icons
    found.pictures, found.rng, found.sources = pictures, rng, sources
    return found


def load_icons(distractors: int, styles: Sequence[str], seed: int) -> tuple[list[Icon], list[Icon]]:
    """The held-out subjects, and as many other icons: half of the subjects' groups, half of any; in some styles."""
    known = recipe()
    cache = known.sources.default_cache()
    held: dict[str, str] = known.dataset.held_out()
    entries, groups, notes = known.icons.emoji_tables(cache)
    every = known.concepts.concepts(entries, groups, notes)
    subjects = [concept for concept in every if concept.name in held]
    others = [concept for concept in every if concept.name not in held]
    known.rng.stream(seed, "distractors").shuffle(others)
    alike = {concept.subgroup for concept in subjects}
    others.sort(key=lambda concept: concept.subgroup not in alike)
    near = [concept for concept in others if concept.subgroup in alike][: distractors // 2]
    far = [concept for concept in others if concept not in near]
    known.rng.stream(seed, "distractors", "far").shuffle(far)
    chosen = near + far[: distractors - len(near)]
    paths = known.icons.rasterise_all([*subjects, *chosen], cache)

    def load(concept: Any) -> Icon:
        icons = {style: known.icons.load(path) for style, path in paths[concept.name].items() if style in styles}
        return Icon(concept.name, held.get(concept.name, concept.subgroup), icons)

    found = {concept.name: load(concept) for concept in subjects}
    return [found[name] for name in held if name in found], [load(concept) for concept in chosen]


def render(
    icon: Image.Image,
    style: str,
    colour: str,
    size: int,
    turn: float,
    share: float,
    shift: tuple[float, float] = (0, 0),
) -> Image.Image:
    """One icon, turned by some degrees, on a plain background."""
    pictures = recipe().pictures
    if style != "line art":
        icon = icon.convert("RGBa").rotate(turn, Image.Resampling.BICUBIC).convert("RGBA")
    else:
        icon = icon.rotate(turn, Image.Resampling.BICUBIC)
    found: Image.Image = pictures.compose(icon, style, pictures.colours()[colour], size, share, shift)
    return found


def subject_pictures(subject: Icon, style: str, size: int, count: int) -> list[tuple[Image.Image, str]]:
    """Three to five pictures of a subject with the names of their backgrounds."""
    pictures = recipe().pictures
    icon = subject.icons[style]
    seen = [colour for colour in TRAINED_ON if colour in pictures.visible(icon, style)]
    chosen = (seen * count)[:count]
    return [(render(icon, style, colour, size, TURNS[i % 5], SHARES[i % 5]), colour) for i, colour in enumerate(chosen)]


def new_backgrounds(subject: Icon, style: str) -> list[str]:
    """Backgrounds that the subject was not seen on, and on which it can be seen."""
    seen: list[str] = recipe().pictures.visible(subject.icons[style], style)
    return [colour for colour in seen if colour not in TRAINED_ON]


def nearest_colour(picture: Image.Image, among: Iterable[str] | None = None) -> str:
    """The name of the background's colour: the nearest to the median of the picture's border."""
    import numpy as np

    table = recipe().pictures.colours()
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    edge = max(1, pixels.shape[0] // 32)
    border = np.concatenate(
        [part.reshape(-1, 3) for part in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:])]
    )
    middle = np.median(border, axis=0)
    return min(among or table, key=lambda name: float(((middle - np.asarray(table[name], np.float32)) ** 2).sum()))
