import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sdcore_controlnet.preprocess import ALIASES, canonical, preprocess_image, preprocessors, register_all
from sdcore_controlnet.preprocess.options import Canny, Tile

from sdcore import ImageError, Options, RequestError
from sdcore.registry import Registry

WORKING = [name for name, found in preprocessors().items() if not found.needs]
SIZES = [(8, 8), (9, 131), (131, 9), (64, 48), (101, 77)]


@pytest.mark.parametrize("name", WORKING)
def test_sizes_modes_and_determinism(name: str, photo: Image.Image) -> None:
    for size in SIZES:
        image = photo.resize(size)
        before = image.tobytes()
        made = preprocess_image(name, image)
        assert made.size == size
        assert made.mode == "RGB"
        assert made.tobytes() == preprocess_image(name, image).tobytes()
        assert image.tobytes() == before


@pytest.mark.parametrize("name", WORKING)
def test_flat_pictures_and_single_pixels(name: str) -> None:
    found = preprocessors()[name]
    options = found.options() if found.options else None
    for size in ((1, 1), (1, 40), (33, 2), (64, 64)):
        for colour in ("black", "white", (90, 20, 200)):
            assert found.run(Image.new("RGB", size, colour), options).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode(mode: str, photo: Image.Image) -> None:
    image = (
        photo.resize((40, 40)).convert("L").convert(mode) if mode == "I;16" else photo.resize((40, 40)).convert(mode)
    )
    assert preprocess_image("canny", image).mode == "RGB"


def test_register_all_is_cheap_and_complete() -> None:
    registry = Registry()
    register_all(registry)
    assert set(registry.all("preprocessor")) == set(preprocessors())
    assert "preprocess" in registry.all("cli_command")
    heavy = "{'cv2', 'torch', 'numpy', 'transformers', 'ai_edge_litert', 'PIL'}"
    code = (
        "import sys; from sdcore.registry import Registry; from sdcore_controlnet.preprocess import register_all;"
        f"register_all(Registry()); sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_of_elsewhere() -> None:
    assert canonical("openpose") == "pose"
    assert canonical("Line_Art") == "line-art"
    assert set(ALIASES.values()) <= set(preprocessors())
    assert not set(ALIASES) & set(preprocessors())


def test_every_option_has_a_description_and_a_default() -> None:
    for found in preprocessors().values():
        if found.options is not None:
            assert found.options()
            assert all(field.description for field in found.options.model_fields.values())


def test_what_is_wrong_is_said(photo: Image.Image, tmp_path: object) -> None:
    with pytest.raises(RequestError, match="Did you mean 'canny'"):
        preprocess_image("cany", photo)
    with pytest.raises(RequestError, match="Did you mean 'low'"):
        preprocess_image("canny", photo, lo=3)
    with pytest.raises(RequestError, match=r"high.*got -1"):
        preprocess_image("canny", photo, high=-1)
    with pytest.raises(RequestError, match="low 300 is above high 200"):
        preprocess_image("canny", photo, low=300)
    with pytest.raises(RequestError, match="no options"):
        preprocess_image("invert", photo, low=300)
    with pytest.raises(RequestError, match="options of the class Tile"):
        preprocess_image("canny", photo, Tile())
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        preprocess_image("canny", "nowhere.png")
    with pytest.raises(ImageError, match="not a picture"):
        preprocess_image("canny", b"text, no picture at all")
    with pytest.raises(ValidationError):
        Canny(aperture=4)


def test_options_can_be_given_in_three_ways(photo: Image.Image) -> None:
    ways = [
        preprocess_image("canny", photo, low=10),
        preprocess_image("canny", photo, {"low": 10}),
        preprocess_image("canny", photo, Canny(low=10)),
    ]
    assert len({made.tobytes() for made in ways}) == 1


def test_tile_blur_and_colour_take_details_away(photo: Image.Image) -> None:
    def detail(image: Image.Image) -> float:
        return float(np.abs(np.diff(np.asarray(image.convert("L"), float))).mean())

    for name, options in (("tile", {"factor": 8}), ("blur", {"sigma": 6}), ("colour", {"cells": 8})):
        made = preprocess_image(name, photo, **options)
        assert detail(made) < 0.5 * detail(photo)
        assert np.abs(np.asarray(made, float).mean((0, 1)) - np.asarray(photo, float).mean((0, 1))).max() < 3
    assert len(np.unique(np.asarray(made).reshape(-1, 3), axis=0)) <= 64
    assert preprocess_image("tile", photo, factor=1).tobytes() == photo.tobytes()


def test_a_cell_has_its_mean_colour() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    made = np.asarray(preprocess_image("colour", Image.fromarray(pixels), cells=4))
    assert np.abs(made[3, 3].astype(float) - pixels[:16, :16].mean((0, 1))).max() <= 0.51
    assert np.abs(made[60, 90].astype(float) - pixels[48:, 80:].mean((0, 1))).max() <= 0.51


def test_tones(photo: Image.Image) -> None:
    pixels = np.asarray(photo)
    assert (np.asarray(preprocess_image("invert", photo)) == 255 - pixels).all()
    assert (np.asarray(preprocess_image("none", photo)) == pixels).all()
    made = np.asarray(preprocess_image("threshold", photo, level=99))[..., 0]
    assert ((made == 255) == (np.asarray(photo.convert("L"), int) > 99)).mean() > 0.99


def test_shuffle_keeps_colours_and_depends_on_its_seed(photo: Image.Image) -> None:
    one, two = (preprocess_image("shuffle", photo, seed=seed) for seed in (1, 2))
    assert one.tobytes() != two.tobytes()
    low, high = np.asarray(photo).min((0, 1)), np.asarray(photo).max((0, 1))
    assert (np.asarray(one) >= low).all()
    assert (np.asarray(one) <= high).all()


def test_the_modules_import() -> None:
    for found in preprocessors().values():
        assert issubclass(found.options, Options) if found.options else True
    assert find_spec("cv2")
    assert importlib.import_module("sdcore_controlnet.preprocess").preprocess_image is preprocess_image


def test_every_option_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "PREPROCESSORS.md").read_text(encoding="utf-8")
    for name, found in preprocessors().items():
        assert f"## {name}\n" in page
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for field, about in found.options.model_fields.items() if found.options else ():
            assert f"| `{field}` |" in section
            assert str(about.description) in section
