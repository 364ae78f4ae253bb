"""Draws the pictures of the README and the how-to page with the embedded model: ``python make_pictures.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from sdcore_inpaint import Inpaint, InpaintPlugin, Outpaint, OutpaintPlugin

from sdcore import Engine
from sdcore.images import contact_sheet

HERE = Path(__file__).parent
SUBJECTS = {
    "apple": ("a red apple, flat style, white background", 7),
    "cat": ("a cat face, 3d style", 3),
    "panda": ("a panda, flat style, pink background", 7),
    "house": ("a house, flat style, white background", 0),
}
GREEN = "a green apple, flat style, white background"
GREY = (150, 150, 156)


class Sheet:
    """Pictures and labels, row by row."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.drawn = {name: engine.generate(prompt, seed=seed).image for name, (prompt, seed) in SUBJECTS.items()}
        self.images: list[Image.Image] = []
        self.labels: list[str] = []

    def add(self, image: Image.Image, label: str) -> None:
        """One picture."""
        self.images.append(image.convert("RGB"))
        self.labels.append(label)

    def inpaint(
        self, image: Image.Image, mask: Image.Image, prompt: str, label: str, seed: int, **options: Any
    ) -> None:
        """One result of inpainting at strength 1."""
        use = [Inpaint(mask=mask, **options)]
        self.add(self.engine.generate(prompt, seed=seed, image=image, strength=1.0, use=use).image, label)

    def outpaint(self, image: Image.Image, prompt: str, label: str, seed: int, **options: Any) -> None:
        """The canvas, and one result of outpainting at strength 1."""
        asked = Outpaint(**options)
        left, top, wide, high = asked.box(*image.size)
        canvas = Image.new("RGB", (wide, high), GREY)
        canvas.paste(image, (left, top))
        self.add(canvas, "the new canvas")
        self.add(self.engine.generate(prompt, seed=seed, image=image, strength=1.0, use=[asked]).image, label)

    def save(self, file: Path, columns: int) -> None:
        """Write the sheet."""
        contact_sheet(self.images, columns=columns, labels=self.labels, cell=128).save(file, optimize=True)


def box(*edges: int, size: int = 64) -> Image.Image:
    """A mask with a white rectangle: left, top, right, bottom."""
    mask = Image.new("L", (size, size))
    mask.paste(255, edges)
    return mask


def main() -> None:
    """Draw and write both sheets."""
    engine = Engine.load(plugins=[InpaintPlugin, OutpaintPlugin])
    sheet = Sheet(engine)
    apple, cat, panda, house = sheet.drawn.values()
    ellipse = Image.new("L", (64, 64))
    ImageDraw.Draw(ellipse).ellipse((12, 12, 52, 56), fill=255)
    for before, mask, prompt, label, seed, options in (
        (apple, box(32, 0, 64, 64), GREEN, "a green apple", 4, {}),
        (house, box(0, 0, 64, 30), "a red house, flat style, white background", "a red house", 3, {"feather": 2}),
        (cat, ellipse, "a tiger face, 3d style", "a tiger face", 4, {"feather": 3}),
    ):
        sheet.add(before, "before")
        sheet.add(mask, "mask")
        sheet.inpaint(before, mask, prompt, label, seed, **options)
    for before, options, prompt, label, seed in (
        (cat.crop((0, 0, 40, 64)), {"right": 24}, SUBJECTS["cat"][0], "24 pixels to the right", 4),
        (apple.crop((0, 0, 40, 64)), {"right": 24}, SUBJECTS["apple"][0], "24 pixels to the right", 4),
        (panda.crop((0, 0, 64, 40)), {"bottom": 24}, SUBJECTS["panda"][0], "24 pixels below", 6),
    ):
        sheet.add(before, "before")
        sheet.outpaint(before, prompt, label, seed, **options)
    sheet.save(HERE / "examples.png", 6)

    masks = Sheet(engine)
    ramp = Image.linear_gradient("L").rotate(90).resize((64, 64)).point(lambda value: value * 110 // 255)
    masks.add(apple, "before")
    masks.add(ramp, "mask, black to grey 110")
    masks.inpaint(apple, ramp, GREEN, "differential", 4, softness="differential")
    masks.inpaint(apple, ramp, GREEN, "soft", 4, softness="soft")
    masks.inpaint(apple, ramp.point(lambda value: value * 2), GREEN, "hard (mask twice as light)", 4)
    large = apple.resize((160, 160), Image.Resampling.LANCZOS)
    small = box(52, 70, 112, 130, size=160)
    masks.add(large, "before, 160x160")
    masks.add(small, "mask")
    masks.inpaint(large, small, "a panda, flat style", "only_masked", 7, only_masked=True, padding=6)
    masks.inpaint(large, small, "a panda, flat style", "without", 7)
    wide = engine.generate(
        SUBJECTS["panda"][0], seed=6, image=panda.crop((0, 0, 40, 64)), strength=1.0, use=[Outpaint(right=88)]
    ).image  # fmt: skip
    masks.add(wide, "40 pixels grown to 128, in rounds")
    masks.save(HERE / "masks.png", 5)


if __name__ == "__main__":
    main()
