"""Icons on plain backgrounds: pure functions on arrays and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

#: The least share of an icon's pixels that must differ from the background, and by how much (of 1).
VISIBLE_SHARE, VISIBLE_DISTANCE = 0.3, 0.15


@cache
def colours() -> dict[str, tuple[int, int, int]]:
    """The background colours by name; the evaluation judges by the same file."""
    table = json.loads((Path(__file__).parent.parent / "colours.json").read_text(encoding="utf-8"))
    return {name: (int(r), int(g), int(b)) for name, (r, g, b) in table.items()}


def is_dark(colour: Sequence[int]) -> bool:
    """Whether black lines are hard to see on the colour (Rec. 601 luma below 0.5)."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255 < 0.5


def for_background(icon: Image.Image, style: str, colour: Sequence[int]) -> Image.Image:
    """The icon as it is drawn on a colour: line art is black on light backgrounds and white on dark ones."""
    if style != "line art":
        return icon
    ink = 255 if is_dark(colour) else 0
    lines = Image.new("RGBA", icon.size, (ink, ink, ink, 0))
    lines.putalpha(icon.getchannel("A"))
    return lines


def place(canvas: Image.Image, icon: Image.Image, box: float, centre: tuple[float, float]) -> None:
    """Draw the icon into the canvas, its square ``box`` pixels wide, around ``centre``, to a fraction of a pixel.

    The icon is filtered with its alpha premultiplied (Pillow does so), so that no dark rims appear.
    """
    left, top = centre[0] - box / 2, centre[1] - box / 2
    scale = icon.width / box
    width, height = canvas.size
    border = int(np.ceil(scale)) + 1
    bordered = Image.new("RGBA", (icon.width + 2 * border, icon.height + 2 * border))
    bordered.paste(icon, (border, border))
    x0, y0 = int(np.floor(left)), int(np.floor(top))
    x1, y1 = int(np.ceil(left + box)), int(np.ceil(top + box))
    source = (
        (x0 - left) * scale + border,
        (y0 - top) * scale + border,
        (x1 - left) * scale + border,
        (y1 - top) * scale + border,
    )
    small = bordered.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=source)
    layer = Image.new("RGBA", (width, height))
    layer.paste(small, (x0, y0))
    canvas.alpha_composite(layer)


def compose(
    icon: Image.Image,
    style: str,
    colour: Sequence[int],
    size: int,
    share: float = 0.875,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Image.Image:
    """One icon on a plain background.

    Args:
        icon: RGBA, square.
        style: its style; line art changes its ink with the background.
        colour: background in 0..255.
        size: side of the result in pixels.
        share: the icon's side as a share of the picture's.
        shift: right and down from the middle, as a share of the picture's side.
    """
    canvas = Image.new("RGBA", (size, size), (*colour, 255))
    centre = (size * (0.5 + shift[0]), size * (0.5 + shift[1]))
    place(canvas, for_background(icon, style, colour), size * share, centre)
    return canvas.convert("RGB")


def visible(icon: Image.Image, style: str) -> list[str]:
    """Names of the backgrounds from which enough of the icon differs: a white heart is not to be seen on white."""
    if style == "line art":
        return list(colours())
    pixels = np.asarray(icon.reduce(max(1, icon.width // 32)), np.float32) / 255
    alpha = pixels[..., 3]
    names = []
    for name, colour in colours().items():
        distance = np.abs(pixels[..., :3] - np.asarray(colour, np.float32) / 255).max(-1)
        if (alpha * (distance > VISIBLE_DISTANCE)).sum() >= VISIBLE_SHARE * alpha.sum():
            names.append(name)
    return names
