"""The data set: what is drawn on which background, with which captions, in the trainer's folder layout."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mini_recipe import captions, duplicates, icons
from mini_recipe.concepts import Concept, concepts
from mini_recipe.pictures import colours, compose, for_background, place, visible
from mini_recipe.processes import parallel
from mini_recipe.rng import stream

PRESETS = {"cpu": 64, "gpu": 128}
LEAST_STYLES = 3
SHARE = 0.875
#: Icons on other backgrounds than the first are moved and scaled a little, so that the codec sees more edges.
JITTER_SHARE, JITTER_SHIFT = 0.03, 0.012
PAIR_SHARE = 0.46
#: Poses are turned by up to so many degrees, fill this share, and lie anywhere in the picture.
POSE_ANGLE, POSE_SHARE = 35.0, (0.5, 0.85)

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


def signature_of(icon: tuple[Path, str]) -> NDArray[Any]:
    """What near duplicates are found by, of an icon's file and style."""
    path, style = icon
    return duplicates.signature(icons.load(path), style)


def catalogue(cache: Path, workers: int = 1, limit: int | None = None) -> Catalogue:
    """All concepts (or the first ones) with their icons, fetched and drawn as needed, by some processes."""
    entries, groups, annotations = icons.emoji_tables(cache)
    found = concepts(entries, groups, annotations, held_out())[:limit]
    paths = icons.rasterise_all(found, cache, workers)
    left_out = {name: "fewer than three styles" for name, styles in paths.items() if len(styles) < LEAST_STYLES}
    names = [concept.name for concept in found if concept.name not in left_out]
    signatures = {}
    with parallel(workers) as spread:
        for style in icons.STYLES:
            drawn = [name for name in names if style in paths[name]]
            found_here = spread(signature_of, [(paths[name][style], style) for name in drawn])
            bar = tqdm(found_here, total=len(drawn), desc=f"near duplicates, {style}", unit="icon", mininterval=1.0)
            signatures[style] = dict(zip(drawn, bar, strict=True))
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


class Row(NamedTuple):
    """A picture as PNG, its captions, and what it shows."""

    picture: bytes
    captions: list[str]
    about: dict[str, str]


def row(picture: Image.Image, texts: list[str], **about: str) -> Row:
    """The row of a picture."""
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=6)
    return Row(content.getvalue(), texts, about)


class Writer:
    """Pictures and their lines of ``metadata.jsonl``, which is written last and whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        """Save one picture with its captions."""
        number = len(self.lines)
        name = f"pictures/{number // 1000:02d}/{number:05d}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.picture)
        self.lines.append({"file_name": name, "captions": row.captions, "score": None, **row.about})

    def close(self, summary: Mapping[str, Any]) -> None:
        """Write the summary and the metadata; only then is the folder a data set."""
        for name, content in (
            ("dataset.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n"),
            ("metadata.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)),
        ):
            beside = self.folder / f"{name}.tmp"
            beside.write_text(content, encoding="utf-8")
            beside.replace(self.folder / name)


@dataclass(frozen=True)
class Drawing:
    """Draws the rows of icons and pairs; what it draws depends on the seed and on what is asked for alone."""

    found: Catalogue
    size: int
    seed: int
    extra_backgrounds: int
    poses: int
    load: Loader

    @cached_property
    def words(self) -> Mapping[str, list[str]]:
        """Synonyms by name."""
        return captions.synonyms(self.found.concepts)

    @cached_property
    def present(self) -> dict[str, list[str]]:
        """Names that have an icon, by style."""
        return {style: [name for name, styles in self.found.icons.items() if style in styles] for style in icons.STYLES}

    def icon(self, cell: tuple[Concept, str]) -> list[Row]:
        """An icon on its backgrounds."""
        concept, style = cell
        icon = self.load(self.found.icons[concept.name][style])
        rows = []
        for index, colour in enumerate(backgrounds(icon, concept.name, style, self.seed, self.extra_backgrounds)):
            random = stream(self.seed, "icon", concept.name, style, colour)
            share, shift = SHARE, (0.0, 0.0)
            if index:
                share += random.uniform(-JITTER_SHARE, JITTER_SHARE)
                shift = (random.uniform(-JITTER_SHIFT, JITTER_SHIFT), random.uniform(-JITTER_SHIFT, JITTER_SHIFT))
            texts = captions.icon_captions(concept, self.words[concept.name], style, colour, random)
            picture = compose(icon, style, colours()[colour], self.size, share, shift)
            rows.append(row(picture, texts, concept=concept.name, style=style, background=colour, kind="icon"))
        return rows + [self._pose(concept, style, icon, number) for number in range(self.poses)]

    def _pose(self, concept: Concept, style: str, icon: Image.Image, number: int) -> Row:
        """The icon turned, smaller, and somewhere: what its caption does not tell."""
        random = stream(self.seed, "pose", concept.name, style, number)
        colour = random.choice(visible(icon, style) or ["sky blue"])
        turned = icon.rotate(random.uniform(-POSE_ANGLE, POSE_ANGLE), Image.Resampling.BICUBIC, expand=True)
        share = random.uniform(*POSE_SHARE)
        room = (1 - share) / 2
        shift = (random.uniform(-room, room), random.uniform(-room, room))
        texts = captions.icon_captions(concept, self.words[concept.name], style, colour, random)
        picture = compose(turned, style, colours()[colour], self.size, share * turned.width / icon.width, shift)
        return row(picture, texts, concept=concept.name, style=style, background=colour, kind="pose")

    def pair(self, number: int) -> Row:
        """Two icons."""
        random = stream(self.seed, "pair", number)
        style = icons.STYLES[number % len(icons.STYLES)]
        first, second = random.sample(self.present[style], 2)
        pictures = [self.load(self.found.icons[name][style]) for name in (first, second)]
        seen = [colour for colour in visible(pictures[0], style) if colour in visible(pictures[1], style)]
        colour = "white" if "white" in seen and random.random() < 0.3 else random.choice(seen or ["sky blue"])
        stacked = random.random() < 0.5
        picture = pair_picture(pictures[0], pictures[1], style, colours()[colour], self.size, stacked)
        texts = captions.pair_captions(first, second, stacked, style, colour, random)
        return row(picture, texts, concept=f"{first} | {second}", style=style, background=colour, kind="pair")


def write(
    found: Catalogue,
    folder: Path,
    size: int,
    seed: int,
    extra_backgrounds: int = 3,
    pairs: int = 8000,
    load: Loader = icons.load,
    workers: int = 1,
    poses: int = 0,
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
        workers: processes that draw; the data set is the same whatever their number.
        poses: pictures of each icon turned, made smaller and moved.
    """
    writer, drawing = Writer(folder), Drawing(found, size, seed, extra_backgrounds, poses, load)
    cells = [(concept, style) for concept in found.concepts for style in found.icons[concept.name]]
    with parallel(workers) as spread:
        for rows in tqdm(spread(drawing.icon, cells), total=len(cells), desc="pictures", unit="icon", mininterval=1.0):
            for one in rows:
                writer.add(one)
        drawn = spread(drawing.pair, range(pairs))
        for one in tqdm(drawn, total=pairs, desc="pairs", unit="picture", mininterval=1.0):
            writer.add(one)
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
