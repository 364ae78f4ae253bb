"""A canvas for charts, and what sheets of pictures are put together from: Pillow only."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sdcore.files import write_atomic

PAPER = (255, 255, 255)
GRID = (232, 233, 238)
FRAME = (208, 210, 218)
MUTED = (112, 115, 128)
INK = (34, 36, 46)
COLOURS = (
    *((47, 107, 214), (224, 122, 47), (38, 150, 105), (138, 92, 209), (201, 62, 92)),
    *((24, 146, 170), (163, 133, 24), (120, 90, 70)),
)
"""Of series, told apart also by most people who see few colours."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
Point = tuple[float, float]
_FINE = 2  # lines are drawn this much larger than the file and reduced: that makes them smooth


class Canvas:
    """A picture drawn in logical pixels, each of which becomes ``scale`` pixels of the file.

    Lines and dots first, text last: text is drawn when the picture is made, so that it stays crisp.

    Args:
        width, height: logical pixels.
        scale: 2 is crisp on screens of high density.
    """

    def __init__(self, width: int, height: int, scale: int = 2) -> None:
        self.width, self.height = width, height
        self._scale = scale
        self._zoom = scale * _FINE
        self._image = Image.new("RGB", (width * self._zoom, height * self._zoom), PAPER)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._texts: list[tuple[Point, str, Colour, float, str]] = []

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1.0, alpha: float = 1.0) -> None:
        """A line through points; a single one is drawn as a dot."""
        if len(points) < 2:
            self.dots(points, colour, width * 1.5, alpha)
            return
        places = [(x * self._zoom, y * self._zoom) for x, y in points]
        self._draw.line(places, fill=(*colour, round(255 * alpha)), width=round(width * self._zoom), joint="curve")

    def dots(self, points: Sequence[Point], colour: Colour, radius: float, alpha: float = 1.0) -> None:
        """A dot at each point."""
        fill, r = (*colour, round(255 * alpha)), radius * self._zoom
        for x, y in points:
            left, top = x * self._zoom, y * self._zoom
            self._draw.ellipse((left - r, top - r, left + r, top + r), fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self._draw.rectangle(tuple(value * self._zoom for value in (left, top, right, bottom)), fill=colour)

    def text(self, place: Point, text: str, colour: Colour = MUTED, size: float = 11, anchor: str = "ls") -> None:
        """A line of text; ``anchor`` is Pillow's: left, middle, right and baseline, middle, ascender."""
        self._texts.append((place, text, colour, size, anchor))

    def width_of(self, text: str, size: float = 11) -> float:
        """Of a line of text, in logical pixels."""
        return font(size * self._scale).getlength(text) / self._scale

    def picture(self) -> Image.Image:
        """What was drawn, with its text."""
        size = (self.width * self._scale, self.height * self._scale)
        image = self._image.resize(size, Image.Resampling.BOX)
        draw = ImageDraw.Draw(image)
        for (x, y), text, colour, points, anchor in self._texts:
            place = (x * self._scale, y * self._scale)
            draw.text(place, text, fill=colour, font=font(points * self._scale), anchor=anchor)
        return image


def font(size: float) -> Font:
    """Pillow's own font, in pixels."""
    return ImageFont.load_default(max(6, size))


def line_height(of: Font) -> int:
    """Between two lines of text, in pixels."""
    return math.ceil(of.getbbox("Ag|")[3] * 1.3)


def wrap(text: str, of: Font, width: float, most: int) -> list[str]:
    """Lines of at most ``width`` pixels, ``most`` of them; what does not fit becomes an ellipsis."""
    lines: list[str] = []
    words = text[:600].split()
    while words and len(lines) < most:
        line = words.pop(0)
        while words and of.getlength(f"{line} {words[0]}") <= width:
            line += " " + words.pop(0)
        if of.getlength(line) > width or (len(lines) == most - 1 and words):
            while len(line) > 1 and of.getlength(line + "…") > width:
                line = line[:-1]
            line = line.rstrip() + "…"
        lines.append(line)
    return lines


def fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture as large as it can be within a cell: small ones by whole factors without smoothing."""
    factor = min(width / picture.width, height / picture.height)
    if factor >= 2:
        size = (picture.width * int(factor), picture.height * int(factor))
        return picture.resize(size, Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    smooth = picture if picture.mode in ("RGB", "RGBA", "L") else picture.convert("RGBA")
    return smooth if size == picture.size else smooth.resize(size, Image.Resampling.LANCZOS)


def save_png(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a PNG so that under its name there is all of it or what was there before.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return write_atomic(path, buffer.getvalue(), overwrite=True)
