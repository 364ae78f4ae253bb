"""Several plugins in one request each, and all of them at once: a LoRA, a ControlNet, inpainting, a watermark.

    python examples/compose.py OUT_FOLDER

writes a sheet of what each adds, and the last picture, which carries the record that makes it again.
Needs sdcore-mini, sdcore-mini-control, sdcore-lora, sdcore-controlnet, sdcore-inpaint and sdcore-watermark.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image
from sdcore_controlnet import ControlNet
from sdcore_inpaint import Inpaint
from sdcore_lora import LoRA
from sdcore_watermark import Key, Watermark, detect

from sdcore import Engine, replay_picture
from sdcore.contact_sheet import contact_sheet

LINE_ART = Path(__file__).parents[1] / "plugins" / "sdcore-lora" / "examples" / "line-art.safetensors"


def compose(folder: Path, steps: int = 25) -> Image.Image:
    """Draw, write into ``folder`` (which exists), and return the sheet."""
    Key.generate().save(folder / "watermark.key", overwrite=True)
    # The mark is the application's decision, so it is in every run, and no request can leave it out.
    always = [Watermark(key=str(folder / "watermark.key"), previews="allow")]
    with Engine.load(always=always) as engine:
        apple = engine.generate("a red apple, flat style, white background", seed=7, steps=steps).image
        apple.save(folder / "apple.png")

        # What is asked for, in the shape of the apple.
        shape = ControlNet(model="mini-canny", image=apple, preprocess="canny")
        prompt = "a pumpkin, 3d style, white background"
        plain = engine.generate(prompt, seed=3, steps=steps).image
        shaped = engine.generate(prompt, seed=3, steps=steps, use=[shape]).image

        # A style that the model has never seen.
        style = LoRA(path=LINE_ART)
        styled = engine.generate("an icon of a guitar, white background", seed=1, steps=steps, use=[style]).image

        # The right half is drawn anew, in that style and in the shape of the apple.
        mask = Image.new("L", apple.size)
        mask.paste(255, (apple.width // 2, 0, *apple.size))
        mask.save(folder / "mask.png")
        everything: dict[str, Any] = {"image": apple, "strength": 1, "use": [Inpaint(mask=mask), shape, style]}
        print(engine.explain("an icon of an apple, white background", seed=5, steps=steps, **everything))
        last = engine.generate("an icon of an apple, white background", seed=5, steps=steps, **everything)
        last.save(folder / "composed.png", overwrite=True)

        # A record names files and pictures by their hashes; only what is allowed here is looked at.
        replay = replay_picture(folder / "composed.png", engine=engine, allow=[LINE_ART, "mini-canny", folder])
        print("replayed: identical" if replay.identical else "\n".join(replay.differences))
    mark = detect(last.image, Key.load(folder / "watermark.key"))
    print(f"watermark found: {mark.found()}")

    pictures = [apple, plain, shaped, styled, mask.convert("RGB"), last.image]
    labels = [
        "an apple",
        "a pumpkin",
        "with its shape",
        "a guitar, with a LoRA",
        "mask: white is redrawn",
        "all at once",
    ]
    sheet = contact_sheet(pictures, labels=labels, columns=3, cell=192)
    sheet.save(folder / "sheet.png")
    return sheet


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    compose(out)
    print(f"wrote {out / 'sheet.png'} and {out / 'composed.png'}")
