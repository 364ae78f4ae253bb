"""The icons of a concept in each style, as square 256x256 RGBA pictures, rasterised once and kept."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from mini_recipe.concepts import Concept
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


def rasterise_all(wanted: Iterable[Concept], cache: Path) -> dict[str, dict[str, Path]]:
    """Paths of the icons by concept name and style; what is not in the cache is drawn now."""
    concepts = list(wanted)
    found: dict[str, dict[str, Path]] = {concept.name: {} for concept in concepts}
    for style in STYLES:
        archive = fetch(PACKAGES[style], cache)
        folder = icon_folder(cache, style)
        folder.mkdir(parents=True, exist_ok=True)
        icons = Renders(archive) if style == "3d" else IconSet(archive)
        for concept in tqdm(concepts, desc=f"icons, {style}", unit="icon", mininterval=1.0):
            name = icons.find(concept)
            if name is None:
                continue
            path = folder / f"{concept.slug}.png"
            if not path.is_file():
                beside = path.with_suffix(f".{os.getpid()}.tmp")
                icons.draw(name).save(beside, "PNG", compress_level=1)
                beside.replace(path)
            found[concept.name][style] = path
    return found


def load(path: Path) -> Image.Image:
    """One rasterised icon."""
    with Image.open(path) as picture:
        return picture.convert("RGBA")
