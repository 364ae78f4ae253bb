"""Where control pictures come from: the data, a preprocessor; kept, varied, dropped, mirrored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_controlnet import preprocess_image
from sdcore_controlnet.training.kept import KeptPictures
from sdcore_controlnet.training.making import drawn
from sdcore_train import ConfigError
from sdcore_train.data import DataError

from .kit import Look, config, draw_data, run


def seen_controls() -> dict[str, Any]:
    """uint8 (height, width, 3) by key, of the first batch."""
    batch = Look.seen.batch
    values = (batch.extra["controlnet"] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return dict(zip(batch.keys, values, strict=True))


@pytest.mark.parametrize("cache", ["off", "disk"])
def test_made_ones_are_those_of_the_preprocessor(tmp_path: Path, data: Path, cache: str) -> None:
    options = {"preprocess_options": {"low": 30, "high": 60}}
    run(config(tmp_path, data, options=options, pictures={"cache": cache}))
    for key, control in seen_controls().items():
        wanted = np.asarray(preprocess_image("canny", data / key, low=30, high=60))
        assert (control == wanted).all()
        assert wanted.any()
    files = list((tmp_path / "out" / "cache" / "controls").rglob("*.png"))
    assert len(files) == (3 if cache == "disk" else 0)


def test_they_are_made_at_the_size_that_is_trained(tmp_path: Path) -> None:
    """A picture twice as large is halved first, as the engine does before it preprocesses; thin edges stay thin."""
    folder = tmp_path / "large"
    draw_data(folder)
    for path in folder.glob("*.png"):
        Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)
    run(config(tmp_path, folder))
    for key, control in seen_controls().items():
        half = Image.open(folder / key).resize((32, 32), Image.Resampling.LANCZOS)
        assert (control == np.asarray(preprocess_image("canny", half))).all()


def test_mirrored_pictures_have_mirrored_controls(tmp_path: Path, data: Path) -> None:
    run(config(tmp_path, data, batch_size=6, seed=3, pictures={"flip": True}))
    batch, mirrored = Look.seen.batch, 0
    for row, (key, control) in enumerate(seen_controls().items()):
        picture = Image.open(data / key)
        turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        shown = ((batch.pixels[row] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        flipped = not (shown == np.asarray(picture)).all()
        mirrored += flipped
        assert (control == np.asarray(preprocess_image("canny", turned if flipped else picture))).all()
    assert 0 < mirrored < 6


def test_those_of_the_data_come_first(tmp_path: Path, data: Path) -> None:
    """One source brings control pictures and another does not: only the other's are made."""
    other, controls = draw_data(tmp_path / "other", seed=1), tmp_path / "controls"
    for path in other.iterdir():
        path.rename(path.with_name(path.name.replace(".png", "-b.png")))
    lines = (other / "metadata.jsonl").read_text().replace('.png"', '-b.png"')
    (other / "metadata.jsonl").write_text(lines)
    controls.mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (0, 0, 40 * number)).save(controls / f"{number}.png")
    sources = [{"path": str(data), "controls": str(controls)}, {"path": str(other)}]
    run(config(tmp_path, sources, batch_size=12))
    found = seen_controls()
    assert len(found) == 12
    for key, control in found.items():
        if key.endswith("-b.png"):
            assert (control == np.asarray(preprocess_image("canny", other / Path(key).name))).all()
        else:
            assert (control == (0, 0, 40 * int(Path(key).stem))).all()


def test_varied_options(tmp_path: Path, data: Path) -> None:
    """Thresholds differ from visit to visit, and are the same when the training is repeated."""
    fields: dict[str, Any] = {"options": {"vary": {"low": [5, 60], "high": [60, 900]}}, "batch_size": 6}
    run(config(tmp_path, data, **fields))
    first = seen_controls()
    assert any((control != np.asarray(preprocess_image("canny", data / key))).any() for key, control in first.items())
    run(config(tmp_path, data, output=str(tmp_path / "again"), **fields))
    assert all((control == first[key]).all() for key, control in seen_controls().items())
    run(config(tmp_path, data, output=str(tmp_path / "other"), seed=1, **fields))
    assert any((control != first[key]).any() for key, control in seen_controls().items())


def test_values_that_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [drawn({"whole": (1, 3), "part": (0.5, 1)}, generator) for _ in range(200)]
    assert {value["whole"] for value in values} == {1, 2, 3}
    assert all(0.5 <= value["part"] <= 1 for value in values)
    assert len({value["part"] for value in values}) > 100


def test_dropped_controls_are_black(tmp_path: Path, data: Path) -> None:
    run(config(tmp_path, data, batch_size=6, options={"dropout": 0.5}))
    black = [not control.any() for control in seen_controls().values()]
    assert 0 < sum(black) < 6


def test_kept_pictures(tmp_path: Path) -> None:
    made = []

    def make() -> Any:
        made.append(1)
        return np.full((2, 2, 3), len(made), np.uint8)

    kept = KeptPictures(tmp_path, memory=12)
    assert [int(kept.get(make, "a")[0, 0, 0]) for _ in range(2)] == [1, 1]  # in memory
    assert int(kept.get(make, "b")[0, 0, 0]) == 2  # no room in memory
    again = KeptPictures(tmp_path, memory=0)
    assert [int(again.get(make, name)[0, 0, 0]) for name in "ab"] == [1, 2]  # from disk
    (path,) = [path for path in tmp_path.rglob("*.png") if np.asarray(Image.open(path))[0, 0, 0] == 1]
    path.write_bytes(path.read_bytes()[:20])
    assert int(again.get(make, "a")[0, 0, 0]) == 3  # half a file is made again
    assert int(KeptPictures(tmp_path, memory=0).get(make, "a")[0, 0, 0]) == 3


@pytest.mark.parametrize(
    ("options", "fields", "says"),
    [
        ({"preprocess": None}, {}, "6 of 6 pictures have no control picture, such as 0.png"),
        ({"preprocess": "cany"}, {}, "Did you mean 'canny'"),
        ({"preprocess_options": {"loww": 3}}, {}, "loww"),
        ({"vary": {"low": [10, 300], "high": [200, 400]}}, {}, "low 300 is above high 200"),
        ({"preprocess": "depth"}, {}, "depth needs a network"),
        ({"embedding_channels": (8, 8)}, {}, "3 are needed"),
        ({"start": "nothing"}, {}, "no such folder or file"),
        ({}, {"pictures": {"flip": True, "cache": "memory"}}, "set pictures.cache to 'off'"),
        ({"vary": {"low": [50, 10]}}, {}, "the smaller comes first"),
        ({"preprocess": None, "vary": {"low": [1, 2]}}, {}, "set preprocess"),
    ],
)
def test_wrong_input(tmp_path: Path, data: Path, options: Any, fields: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(config(tmp_path, data, options=options, **fields))
    assert not (tmp_path / "out" / "controlnet").exists()


def test_pictures_of_one_name(tmp_path: Path, data: Path) -> None:
    """Two sources have a picture of the same name: each gets its own control picture."""
    other = draw_data(tmp_path / "other", seed=1)
    run(config(tmp_path, [{"path": str(data)}, {"path": str(other)}], batch_size=12))
    found = seen_controls()
    assert len(found) == 12
    for key, control in found.items():
        folder = other if "other" in key else data
        assert (control == np.asarray(preprocess_image("canny", folder / Path(key).name))).all()


def test_a_control_of_another_shape(tmp_path: Path, data: Path) -> None:
    controls = tmp_path / "controls"
    controls.mkdir()
    for number in range(6):
        Image.new("RGB", (32, 64)).save(controls / f"{number}.png")
    source = [{"path": str(data), "controls": str(controls)}]
    with pytest.raises(DataError, match="control picture is 64x32"):
        run(config(tmp_path, source, options={"preprocess": None}, pictures={"broken": "error"}))
