"""Sheets of sample pictures: one row for each prompt, one column for each seed or step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from sdcore import RequestError

from .drawing import FRAME, INK, MUTED, PAPER, fit, font, line_height, save_png, wrap

Row = tuple[str, Sequence[Image.Image | None]]


def draw_sheet(
    rows: Sequence[Row],
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] = (),
    title: str = "",
    cell: int | None = None,
) -> Path:
    """Draw a sheet and write it as PNG.

    Args:
        rows: a label, which stands at the left, and pictures; None leaves a place empty.
        path: the file; replaced if it is there.
        columns: a heading for each column.
        title: a line above.
        cell: the side of the square that each picture is fitted into, in pixels. None is the size of the largest
            picture, up to 512, or a multiple of it that is at least 96.

    Returns:
        The path.

    Raises:
        RequestError: there is no picture.
        OutputError: the file cannot be written.
    """
    return save_png(sheet(rows, columns=columns, title=title, cell=cell), path)


def sheet(rows: Sequence[Row], *, columns: Sequence[str] = (), title: str = "", cell: int | None = None) -> Image.Image:
    """The picture that `draw_sheet` writes."""
    pictures = [picture for _, row in rows for picture in row if picture is not None]
    if not pictures:
        raise RequestError("a sheet got no pictures: give at least one")
    cell = _cell(max(max(picture.size) for picture in pictures)) if cell is None else cell
    across = max(len(row) for _, row in rows)
    fitted = [[None if picture is None else fit(picture, cell, cell) for picture in row] for _, row in rows]

    gap = max(6, cell // 20)
    text = font(min(22, max(12, cell / 12)))
    line = line_height(text)
    widest = max(text.getlength(label) for label, _ in rows)
    side = round(min(widest, cell, 260)) + gap if widest else 0
    heading = font(min(30, max(15, cell / 8)))
    head = line_height(heading) + gap if title else 0
    tops = [gap + head + (line + gap // 2 if any(columns) else 0)]
    for row in fitted:
        tops.append(tops[-1] + max((picture.height for picture in row if picture is not None), default=line) + gap)
    image = Image.new("RGB", (gap + side + across * (cell + gap), tops[-1]), PAPER)
    draw = ImageDraw.Draw(image)
    for words in wrap(title, heading, image.width - 2 * gap, 1):
        draw.text((gap, gap), words, fill=INK, font=heading)
    for index, name in enumerate(columns[:across]):
        middle = gap + side + index * (cell + gap) + cell / 2
        draw.text((middle, tops[0] - gap // 2), name, fill=MUTED, font=text, anchor="md")
    for (label, _), row, top, below in zip(rows, fitted, tops, tops[1:], strict=False):
        high = below - gap - top
        lines = wrap(label, text, side - gap, max(1, high // line)) if side else []
        for index, words in enumerate(lines):
            draw.text((gap, top + (high - len(lines) * line) / 2 + index * line), words, fill=INK, font=text)
        for index, picture in enumerate(row):
            if picture is not None:
                left = gap + side + index * (cell + gap) + (cell - picture.width) // 2
                _place(image, draw, picture, left, top + (high - picture.height) // 2)
    return image


def _cell(largest: int) -> int:
    """Small pictures are shown two or more times as large, by a whole factor."""
    return min(512, largest * max(1, -(-96 // largest)))


def _place(image: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, left: int, upper: int) -> None:
    draw.rectangle((left - 1, upper - 1, left + picture.width, upper + picture.height), outline=FRAME)
    shown = picture.convert("RGBA")
    image.paste(shown, (left, upper), shown)
