"""``sdcore demo``: a set of pictures drawn with the installed model, and sheets of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.files import make_folder, write_atomic

from .progress import open_bar
from .terminal import cancelled_by_ctrl_c, say

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.engine import Engine

PROMPTS = (
    ("apple", "a green apple, flat style, white background", 4),
    ("cat", "a cat face, 3d style", 3),
    ("house", "a house, flat style, white background", 0),
    ("sunflower", "a sunflower, flat style, black background", 1),
    ("fire-engine", "a fire engine, flat style, white background", 5),
    ("panda", "a panda, flat style, pink background", 7),
    ("tiger", "a tiger face, flat style, white background", 3),
    ("heart", "a red heart, 3d style, white background", 2),
)
STRENGTHS = (0.4, 0.6, 0.8)
SCALES = (1.0, 2.0, 4.0, 8.0)
CELL = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the model."""
    parser.add_argument("--out", default="demo-out", metavar="FOLDER", help="where to (demo-out)")
    parser.add_argument("--model", metavar="SRC", help="another model than the installed one")
    parser.add_argument("--steps", type=int, default=None, metavar="N", help="denoising steps of each picture")


def run(args: argparse.Namespace) -> int:
    """Draw, write, and say what was made."""
    folder = make_folder(args.out)
    from sdcore.engine import Engine

    with Engine.load(args.model, plugins=()) as engine, cancelled_by_ctrl_c(engine):
        demo = _Demo(engine, folder, args)
        drawn = {name: demo.draw(name, prompt=prompt, seed=seed) for name, prompt, seed in PROMPTS}
        demo.sheet("text-to-image", drawn, [prompt for _, prompt, _ in PROMPTS], columns=4)
        cat = folder / "cat.png"
        varied = {"given": drawn["cat"]} | {
            f"cat-to-tiger-{strength}": demo.draw(
                f"cat-to-tiger-{strength}", prompt=PROMPTS[6][1], seed=8, image=cat, strength=strength
            )
            for strength in STRENGTHS
        }
        demo.sheet(
            "image-to-image", varied, ["given", *(f"strength {strength:g}" for strength in STRENGTHS)], columns=4
        )
        scaled = {
            f"guidance-{scale:g}": demo.draw(f"guidance-{scale:g}", prompt=PROMPTS[4][1], seed=5, guidance_scale=scale)
            for scale in SCALES
        }
        demo.sheet("guidance-scale", scaled, [f"guidance {scale:g}" for scale in SCALES], columns=4)
        demo.sheet("sheet", drawn | varied | scaled, list(demo.labels(varied, scaled)), columns=4)
    say(f"{demo.count} pictures and 4 sheets in {folder}; look at {folder / 'sheet.png'}")
    say(f"each can be made again: sdcore replay {folder / 'apple.png'}")
    return 0


class _Demo:
    def __init__(self, engine: Engine, folder: Path, args: argparse.Namespace) -> None:
        self._engine, self._folder = engine, folder
        self._fields: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
        pictures = len(PROMPTS) + len(STRENGTHS) + len(SCALES)
        self._bar = None if args.quiet else open_bar(pictures, "picture")
        self.count = 0

    def draw(self, name: str, **fields: Any) -> Image:
        """One picture, written under its name."""
        result = self._engine.generate(**self._fields, **fields)
        (file,) = result.save(self._folder / f"{name}.png", overwrite=True)
        self._say(f"{file}  {fields['prompt']}")
        self.count += 1
        if self._bar is not None:
            self._bar.update(1)
            if self.count == self._bar.total:
                self._bar.close()
        return result.image

    def sheet(self, name: str, images: Mapping[str, Image], labels: Sequence[str], columns: int) -> None:
        """Pictures on one sheet."""
        from sdcore.images import contact_sheet
        from sdcore.picture_files import encode_image

        title = "Drawn by sdcore" if name == "sheet" else name.replace("-", " ")
        sheet = contact_sheet(list(images.values()), labels=labels, title=title, cell=CELL, columns=columns)
        file = write_atomic(self._folder / f"{name}.png", encode_image(sheet, "png", None), overwrite=True)
        self._say(f"{file}  {len(images)} pictures")

    def labels(self, varied: Mapping[str, Image], scaled: Mapping[str, Image]) -> Iterator[str]:
        """What stands below the pictures of the sheet with everything."""
        yield from (prompt for _, prompt, _ in PROMPTS)
        yield from (name.replace("-", " ") for name in (*varied, *scaled))

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        say(text)
