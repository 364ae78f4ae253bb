"""The data set: what is drawn on which background, with which captions, in the trainer's folder layout."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from mini_recipe import captions, duplicates, icons
from mini_recipe.concepts import Concept, concepts
from mini_recipe.pictures import colours, compose, for_background, place, visible
from mini_recipe.rng import stream

PRESETS = {"cpu": 64, "gpu": 128}
LEAST_STYLES = 3
SHARE = 0.875
#: Icons on other backgrounds than the first are moved and scaled a little, so that the codec sees more edges.
JITTER_SHARE, JITTER_SHIFT = 0.03, 0.012
PAIR_SHARE = 0.46

Loader = Callable[[Path], Image.Image]


@dataclass(frozen=True)
class Catalogue:
    """What can be drawn: concepts, their icons by name and style, and what was left out and why."""

    concepts: tuple[Concept, ...]
    icons: Mapping[str, Mapping[str, Path]]
    left_out: Mapping[str, str] = field(default_factory=dict)


def held_out() -> dict[str, str]:
    """Names that the model never sees, each with the class that it belongs to."""
    found: dict[str, str] = json.loads((Path(__file__).parent.parent / "held_out.json").read_text(encoding="utf-8"))
    return found


def catalogue(cache: Path) -> Catalogue:
    """All concepts with their icons, fetched and drawn as needed."""
    entries, groups, annotations = icons.emoji_tables(cache)
    found = concepts(entries, groups, annotations, held_out())
    paths = icons.rasterise_all(found, cache)
    left_out = {name: "fewer than three styles" for name, styles in paths.items() if len(styles) < LEAST_STYLES}
    names = [concept.name for concept in found if concept.name not in left_out]
    signatures = {
        style: {
            name: duplicates.signature(icons.load(paths[name][style]), style)
            for name in tqdm(names, desc=f"near duplicates, {style}", unit="icon", mininterval=1.0)
            if style in paths[name]
        }
        for style in icons.STYLES
    }
    gone, single = duplicates.resolve(names, signatures)
    left_out |= {name: f"looks like {other!r}" for name, other in gone.items()}
    left_out |= {f"{name}, {style}": "looks like another in this style" for name, style in sorted(single)}
    kept = tuple(concept for concept in found if concept.name not in left_out)
    table = {
        concept.name: {
            style: path for style, path in paths[concept.name].items() if (concept.name, style) not in single
        }
        for concept in kept
    }
    return Catalogue(kept, table, left_out)


def held_out_catalogue(cache: Path) -> Catalogue:
    """The icons that the model never sees, for evaluations of what it can be taught later."""
    entries, groups, annotations = icons.emoji_tables(cache)
    wanted = held_out()
    found = tuple(concept for concept in concepts(entries, groups, annotations) if concept.name in wanted)
    return Catalogue(found, icons.rasterise_all(found, cache))


def backgrounds(icon: Image.Image, name: str, style: str, seed: int, extra: int) -> list[str]:
    """Names of the backgrounds of an icon: white where it can be seen, and ``extra`` others."""
    others = [colour for colour in colours() if colour != "white"]
    stream(seed, "background", name, style).shuffle(others)
    seen = visible(icon, style)
    return [colour for colour in seen if colour == "white"] + [colour for colour in others if colour in seen][:extra]


def pair_picture(
    first: Image.Image, second: Image.Image, style: str, colour: Sequence[int], size: int, stacked: bool
) -> Image.Image:
    """Two icons side by side (first left) or one above the other (first above)."""
    canvas = Image.new("RGBA", (size, size), (*colour, 255))
    near, far = 0.26 * size, 0.74 * size
    ends = ((size / 2, near), (size / 2, far)) if stacked else ((near, size / 2), (far, size / 2))
    for icon, centre in zip((first, second), ends, strict=True):
        place(canvas, for_background(icon, style, colour), PAIR_SHARE * size, centre)
    return canvas.convert("RGB")


class Writer:
    """Pictures and their lines of ``metadata.jsonl``, which is written last and whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []

    def add(self, picture: Image.Image, texts: list[str], **extra: object) -> None:
        """Save one picture with its captions."""
        number = len(self.lines)
        name = f"pictures/{number // 1000:02d}/{number:05d}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, compress_level=6)
        self.lines.append({"file_name": name, "captions": texts, "score": None, **extra})

    def close(self, summary: Mapping[str, Any]) -> None:
        """Write the summary and the metadata; only then is the folder a data set."""
        for name, content in (
            ("dataset.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n"),
            ("metadata.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)),
        ):
            beside = self.folder / f"{name}.tmp"
            beside.write_text(content, encoding="utf-8")
            beside.replace(self.folder / name)


def write(
    found: Catalogue,
    folder: Path,
    size: int,
    seed: int,
    extra_backgrounds: int = 3,
    pairs: int = 8000,
    load: Loader = icons.load,
) -> dict[str, Any]:
    """Write the data set and return its summary.

    Args:
        found: what to draw.
        folder: where to; must be empty or absent.
        size: side of the pictures in pixels.
        seed: decides backgrounds, captions and pairs.
        extra_backgrounds: backgrounds of each icon besides white.
        pairs: number of pictures of two icons.
        load: reads an icon.
    """
    table, words, writer = colours(), captions.synonyms(found.concepts), Writer(folder)
    cells = [(concept, style) for concept in found.concepts for style in found.icons[concept.name]]
    for concept, style in tqdm(cells, desc="pictures", unit="icon", mininterval=1.0):
        icon = load(found.icons[concept.name][style])
        for index, colour in enumerate(backgrounds(icon, concept.name, style, seed, extra_backgrounds)):
            random = stream(seed, "icon", concept.name, style, colour)
            share, shift = SHARE, (0.0, 0.0)
            if index:
                share += random.uniform(-JITTER_SHARE, JITTER_SHARE)
                shift = (random.uniform(-JITTER_SHIFT, JITTER_SHIFT), random.uniform(-JITTER_SHIFT, JITTER_SHIFT))
            texts = captions.icon_captions(concept, words[concept.name], style, colour, random)
            picture = compose(icon, style, table[colour], size, share, shift)
            writer.add(picture, texts, concept=concept.name, style=style, background=colour, kind="icon")
    present = {style: [name for name, styles in found.icons.items() if style in styles] for style in icons.STYLES}
    for number in tqdm(range(pairs), desc="pairs", unit="picture", mininterval=1.0):
        random = stream(seed, "pair", number)
        style = icons.STYLES[number % len(icons.STYLES)]
        first, second = random.sample(present[style], 2)
        pictures = [load(found.icons[name][style]) for name in (first, second)]
        seen = [colour for colour in visible(pictures[0], style) if colour in visible(pictures[1], style)]
        colour = "white" if "white" in seen and random.random() < 0.3 else random.choice(seen or ["sky blue"])
        stacked = random.random() < 0.5
        picture = pair_picture(pictures[0], pictures[1], style, table[colour], size, stacked)
        texts = captions.pair_captions(first, second, stacked, style, colour, random)
        both = f"{first} | {second}"
        writer.add(picture, texts, concept=both, style=style, background=colour, kind="pair")
    summary = {
        "seed": seed,
        "size": size,
        "concepts": len(found.concepts),
        "pictures": len(writer.lines),
        "captions": sum(len(line["captions"]) for line in writer.lines),
        "kinds": dict(Counter(line["kind"] for line in writer.lines)),
        "styles": dict(Counter(style for _, style in cells)),
        "backgrounds": dict(Counter(line["background"] for line in writer.lines)),
        "held_out": sorted(held_out()),
        "names": [concept.name for concept in found.concepts],
        "left_out": dict(found.left_out),
    }
    writer.close(summary)
    return summary
