"""Write the sample photographs of scikit-image and scikit-learn as square PNG files, for ``sdcore watermark bench``.

    python plugins/sdcore-watermark/make_photographs.py photographs --size 512

Needs scikit-image and scikit-learn, from whose packages the photographs are read; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from PIL import Image

SCIKIT_IMAGE = (
    *("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png"),
    *("motorcycle_left.png", "camera.png", "grass.png", "retina.jpg", "gravel.png", "brick.png", "coins.png"),
    *("moon.png", "motorcycle_right.png"),
)
SCIKIT_LEARN = ("china.jpg", "flower.jpg")


def paths() -> list[Path]:
    """Where the photographs lie."""
    found = []
    for package, folder, names in (("skimage", "data", SCIKIT_IMAGE), ("sklearn", "datasets/images", SCIKIT_LEARN)):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed: pip install scikit-image scikit-learn")
        found += [Path(spec.origin).parent / folder / name for name in names]
    return [path for path in found if path.is_file()]


def square(path: Path, size: int) -> Image.Image:
    """The middle of a photograph, ``size`` pixels a side."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for path in paths():
        square(path, args.size).save(args.folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
