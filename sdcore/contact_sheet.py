"""A labelled grid of pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .errors import RequestError

BACKGROUND = (246, 246, 248)
FRAME = (221, 221, 227)
INK = (39, 39, 46)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    images: Sequence[Image.Image],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    cell: int | tuple[int, int] | None = None,
) -> Image.Image:
    """Arrange pictures in a grid, each with its label below it.

    Args:
        images: the pictures, of any sizes and modes, filled row by row.
        columns: pictures in a row; the squarest grid when None.
        labels: one text per picture, wrapped to three lines at most; an empty text leaves its place empty.
        title: a line above the grid.
        cell: the width and height, in pixels, into which every picture is fitted, keeping its proportions.
            Small pictures are enlarged by whole factors without smoothing, so that what one sees is their
            pixels; otherwise Lanczos. None: the largest width and height among the pictures, none scaled.

    Raises:
        RequestError: no pictures, as many labels as pictures are not given, or a size below 1.
    """
    texts = [] if labels is None else list(labels)
    if not images:
        raise RequestError("contact_sheet got no pictures: give at least one")
    if labels is not None and len(texts) != len(images):
        raise RequestError(f"contact_sheet got {len(texts)} labels for {len(images)} pictures: give one each")
    if cell is None:
        wide, high = max(i.width for i in images), max(i.height for i in images)
    else:
        wide, high = (cell, cell) if isinstance(cell, int) else cell
    across = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if min(wide, high, across) < 1:
        raise RequestError(f"contact_sheet: cell {wide}x{high} and columns {across} must be at least 1")
    across = min(across, len(images))

    gap = max(8, wide // 14)
    font = ImageFont.load_default(min(20, max(11, wide // 13)))
    line = _line_height(font)
    wrapped = [_wrap(text, font, wide) for text in texts]
    heading = ImageFont.load_default(min(34, max(15, wide // 8)))
    width = gap + across * (wide + gap)
    head = _wrap(title or "", heading, width - 2 * gap)
    top = gap + (len(head) * _line_height(heading) + gap if head else 0)
    tops = [top]
    for start in range(0, len(images), across):
        most = max(map(len, wrapped[start : start + across]), default=0)
        tops.append(tops[-1] + high + gap + (most * line + gap // 2 if most else 0))
    sheet = Image.new("RGB", (width, tops[-1]), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((gap, gap), "\n".join(head), fill=INK, font=heading)
    for index, picture in enumerate(images):
        left, upper = gap + index % across * (wide + gap), tops[index // across]
        fitted = picture if cell is None else _fit(picture, wide, high)
        x, y = left + (wide - fitted.width) // 2, upper + (high - fitted.height) // 2
        draw.rectangle((x - 1, y - 1, x + fitted.width, y + fitted.height), outline=FRAME)
        shown = fitted.convert("RGBA")
        sheet.paste(shown, (x, y), shown)
        for row, text in enumerate(wrapped[index] if wrapped else ()):
            middle = left + (wide - round(font.getlength(text))) // 2
            draw.text((middle, upper + high + gap // 2 + row * line), text, fill=INK, font=font)
    return sheet


def _fit(picture: Image.Image, wide: int, high: int) -> Image.Image:
    factor = min(wide / picture.width, high / picture.height)
    if factor >= 2:
        whole = int(factor)
        return picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    smooth = picture if picture.mode in ("RGB", "RGBA", "L") else picture.convert("RGBA")
    return smooth if size == picture.size else smooth.resize(size, Image.Resampling.LANCZOS)


def _line_height(font: Font) -> int:
    return math.ceil(font.getbbox("Ag|")[3] * 1.25)


def _wrap(text: str, font: Font, width: int, most: int = 3) -> list[str]:
    lines: list[str] = []
    words = text[:400].split()
    while words:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line += " " + words.pop(0)
        last = len(lines) == most - 1
        if font.getlength(line) > width or (last and words):
            while len(line) > 1 and font.getlength(line + "…") > width:
                line = line[:-1]
            line = line.rstrip() + "…"
        lines.append(line)
        if last:
            break
    return lines
