"""Sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

GAP = 4
WRONG = (220, 0, 60)


def grid(pictures: Sequence[Image.Image], columns: int, wrong: Sequence[bool] = ()) -> Image.Image:
    """Pictures in rows; those that are wrong have a frame."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        left, top = GAP + index % columns * (width + GAP), GAP + index // columns * (height + GAP)
        sheet.paste(picture, (left, top))
        if index < len(wrong) and wrong[index]:
            pen.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=WRONG, width=2)
    return sheet


def captioned(pictures: Sequence[Sequence[Image.Image]], captions: Sequence[str], scale: int = 2) -> Image.Image:
    """One row of pictures for each caption, with the caption above it, two such rows side by side."""
    width, height = (side * scale for side in pictures[0][0].size)
    across, line = len(pictures[0]) * (width + GAP) + 4 * GAP, height + 20
    rows = -(-len(pictures) // 2)
    sheet = Image.new("RGB", (2 * across, rows * line + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (row, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = index % 2 * across + GAP, index // 2 * line
        pen.text((left, top + 3), caption or "(empty prompt)", fill="black")
        for number, picture in enumerate(row):
            large = picture.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (left + number * (width + GAP), top + 18))
    return sheet
