"""The result as a picture: a table whose cells are coloured by the share of marks that were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT, LEFT, TOP = 150, 22, 150, 46


def plot(report: dict[str, Any]) -> Image:
    """Rows are attacks, columns schemes; the number is the TPR, and behind it the share of exact reads."""
    from PIL import Image as PIL
    from PIL import ImageDraw, ImageFont

    schemes = report["schemes"]
    names = list(schemes)
    attacks = list(next(iter(schemes.values()))["attacks"])
    image = PIL.new("RGB", (LEFT + WIDTH * len(names) + 8, TOP + HEIGHT * len(attacks) + 8), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.text((8, 4), f"share of marks found at FPR {report['fpr']:g} / payload read", "black", font)
    for column, name in enumerate(names):
        draw.text((LEFT + column * WIDTH + 6, 24), name.removeprefix("imwatermark-"), "black", font)
    for row, attack in enumerate(attacks):
        y = TOP + row * HEIGHT
        draw.text((8, y + 3), attack, "black", font)
        for column, name in enumerate(names):
            cell = schemes[name]["attacks"][attack]
            x = LEFT + column * WIDTH
            found = cell["tpr"]
            draw.rectangle((x, y, x + WIDTH - 2, y + HEIGHT - 2), fill=colour(found))
            text = "-" if found is None else f"{found:.2f} / {cell['exact']:.2f}"
            draw.text((x + 36, y + 3), text, "black", font)
    return image


def colour(share: float | None) -> tuple[int, int, int]:
    """From red (0) over yellow to green (1); grey for nothing measured."""
    if share is None:
        return 225, 225, 225
    red, green = min(1.0, 2 * (1 - share)), min(1.0, 2 * share)
    return round(120 + 130 * red), round(110 + 125 * green), 115
