"""The icons of a concept in each style, as square 256x256 RGBA pictures, rasterised once and kept."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from mini_recipe.concepts import Concept
from mini_recipe.processes import parallel
from mini_recipe.sources import PACKAGES, fetch, members, read_json

SIZE = 256
STYLES = ("3d", "gradient", "flat", "noto", "line art")


def pad_square(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a transparent square of ``SIZE`` pixels."""
    picture = picture.convert("RGBA")
    if max(picture.size) != SIZE:
        scale = SIZE / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.LANCZOS
        )
    if picture.size == (SIZE, SIZE):
        return picture
    square = Image.new("RGBA", (SIZE, SIZE))
    square.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    return square


def rasterise(body: str, width: float, height: float) -> Image.Image:
    """An SVG body with its view box, drawn so that its longer side has ``SIZE`` pixels."""
    import resvg_py

    scale = SIZE / max(width, height)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width * scale}" height="{height * scale}" viewBox="0 0 {width} {height}">{body}</svg>'
    )
    with Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))) as picture:
        return pad_square(picture)


class IconSet:
    """The icons of one iconify package, found by code point or by name."""

    def __init__(self, archive: Path) -> None:
        found = members(archive, "icons.json", "chars.json")
        content: dict[str, Any] = json.loads(found["icons.json"])
        self._chars: dict[str, str] = json.loads(found["chars.json"])
        self._icons: dict[str, Any] = content["icons"]
        self._size = (content.get("width", 16), content.get("height", 16))

    def find(self, concept: Concept) -> str | None:
        """The icon's name in this package. By name first: fluent gives its icons the labels of emojibase."""
        hexcode = concept.hexcode.lower()
        candidates = (concept.slug, self._chars.get(hexcode), self._chars.get(hexcode.replace("-fe0f", "")))
        return next((name for name in candidates if name in self._icons), None)

    def draw(self, name: str) -> Image.Image:
        """An icon as a picture."""
        icon = self._icons[name]
        return rasterise(icon["body"], icon.get("width", self._size[0]), icon.get("height", self._size[1]))


class Renders:
    """The ready renders of the 3D package, found by code point."""

    def __init__(self, archive: Path) -> None:
        self._files = {Path(name).stem: content for name, content in members(archive).items() if ".webp" in name}

    def find(self, concept: Concept) -> str | None:
        """The name of a concept's render."""
        hexcode = concept.hexcode.lower()
        candidates = (hexcode, f"{hexcode}-fe0f", hexcode.replace("-fe0f", ""))
        return next((name for name in candidates if name in self._files), None)

    def draw(self, name: str) -> Image.Image:
        """A render as a picture."""
        with Image.open(io.BytesIO(self._files[name])) as picture:
            return pad_square(picture)


def emoji_tables(cache: Path) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    """emojibase's entries, its subgroups by number, and CLDR's annotations by emoji, all English."""
    names = fetch(PACKAGES["names"], cache)
    keywords = read_json(fetch(PACKAGES["keywords"], cache), "annotations/en/annotations.json")
    groups = read_json(names, "meta/groups.json")["subgroups"]
    return read_json(names, "en/data.json"), groups, keywords["annotations"]["annotations"]


def icon_folder(cache: Path, style: str) -> Path:
    """Where the rasterised icons of a style lie."""
    return cache / "icons" / f"{style.replace(' ', '-')}-{PACKAGES[style].version}"


@cache
def icons_of(style: str, archive: Path) -> IconSet | Renders:
    """The icons of a style; each process reads an archive once."""
    return Renders(archive) if style == "3d" else IconSet(archive)


def draw_into(job: tuple[str, Path, str, Path]) -> None:
    """Draw the icon of a style, from an archive, with a name, into a file."""
    style, archive, name, path = job
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    icons_of(style, archive).draw(name).save(beside, "PNG", compress_level=1)
    beside.replace(path)


def rasterise_all(wanted: Iterable[Concept], folder: Path, workers: int = 1) -> dict[str, dict[str, Path]]:
    """Paths of the icons by concept name and style; what is not in the cache folder is drawn now."""
    concepts = list(wanted)
    found: dict[str, dict[str, Path]] = {concept.name: {} for concept in concepts}
    with parallel(workers) as spread:
        for style in STYLES:
            archive, own = fetch(PACKAGES[style], folder), icon_folder(folder, style)
            own.mkdir(parents=True, exist_ok=True)
            icons = icons_of(style, archive)
            jobs = []
            for concept in concepts:
                name = icons.find(concept)
                if name is not None:
                    path = found[concept.name][style] = own / f"{concept.slug}.png"
                    if not path.is_file():
                        jobs.append((style, archive, name, path))
            bar = tqdm(spread(draw_into, jobs), total=len(jobs), desc=f"icons, {style}", unit="icon", mininterval=1.0)
            for _ in bar:
                pass
    return found


def load(path: Path) -> Image.Image:
    """One rasterised icon."""
    with Image.open(path) as picture:
        return picture.convert("RGBA")
