"""Sheets put each picture where it belongs, and the progress sheet goes on after a restart."""

import json

import numpy as np
import pytest
from PIL import Image
from sdcore_train.monitor.samples import PROGRESS, sheets, write_samples
from sdcore_train.monitor.sheet import draw_sheet, sheet

from sdcore import OutputError, RequestError

RED, GREEN, BLUE, PINK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (250, 90, 200)


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def box(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """(left, top, width, height) of the pixels of a colour."""
    found = np.argwhere((np.asarray(picture.convert("RGB")) == colour).all(-1))
    if not len(found):
        return None
    (top, left), (bottom, right) = found.min(0), found.max(0)
    return int(left), int(top), int(right - left + 1), int(bottom - top + 1)


def ink_left_of(picture: Image.Image, x: int, top: int, bottom: int) -> bool:
    return bool((np.asarray(picture.convert("L"))[top:bottom, : x - 2] < 120).any())


def test_rows_are_prompts_and_columns_are_pictures():
    made = sheet([("a red apple", [flat(RED), flat(GREEN)]), ("a cat", [flat(BLUE), flat(PINK)])], columns=["1", "2"])
    red, green, blue, pink = (box(made, colour) for colour in (RED, GREEN, BLUE, PINK))
    assert {b[2:] for b in (red, green, blue, pink)} == {(128, 128)}  # twice as large, by whole pixels
    assert red[1] == green[1] < blue[1] == pink[1]
    assert red[0] == blue[0] < green[0] == pink[0]
    assert ink_left_of(made, red[0], red[1], red[1] + 128)
    assert ink_left_of(made, blue[0], blue[1], blue[1] + 128)
    bare = sheet([("", [flat(RED)])])
    assert box(bare, RED)[0] < 10  # no room is kept for labels that are not there


def test_pictures_keep_their_proportions_and_places_may_be_empty():
    made = sheet([("x", [None, flat(RED, (600, 300))]), ("y", [flat(GREEN, (100, 300)), None])])
    red, green = box(made, RED), box(made, GREEN)
    assert red[2] / red[3] == pytest.approx(2, abs=0.05)
    assert red[2] == 512
    assert green[2] / green[3] == pytest.approx(1 / 3, abs=0.02)
    assert green[0] < red[0]


def test_see_through_pictures_and_other_modes_are_shown():
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    made = sheet([("x", [clear, flat(RED).quantize(4), Image.new("L", (64, 64), 77)])])
    assert box(made, RED) is not None
    assert box(made, (77, 77, 77)) is not None
    assert np.asarray(made.convert("L"))[:, box(made, RED)[0] - 70].min() > 150


def test_labels_of_any_length_fit():
    words = "a very long prompt that goes on " * 40
    made = sheet([(words, [flat(RED)]), ("x" * 500, [flat(GREEN)]), ("日本語 🎨", [flat(BLUE)])], title=words)
    assert made.width < 600
    assert box(made, RED)[2:] == (128, 128)


def test_a_sheet_needs_a_picture_and_a_folder(tmp_path):
    for rows in ([], [("x", [])], [("x", [None])]):
        with pytest.raises(RequestError, match="no pictures"):
            draw_sheet(rows, tmp_path / "sheet.png")
    with pytest.raises(OutputError):
        draw_sheet([("x", [flat(RED)])], tmp_path / "no" / "sheet.png")
    assert not list(tmp_path.iterdir())


def progress(folder) -> Image.Image:
    with Image.open(folder / PROGRESS) as picture:
        return picture.convert("RGB")


def test_progress_has_a_column_for_each_time(tmp_path):
    for step, first, other in ((0, RED, PINK), (100, GREEN, PINK), (200, BLUE, PINK)):
        path = write_samples(tmp_path, step, [("a cat", [flat(first), flat(other)])], columns=["seed 1", "seed 2"])
        assert path.name == f"step-{step:08d}.png"
        with Image.open(path) as picture:
            assert box(picture, other) is not None
    made = progress(tmp_path)
    red, green, blue = (box(made, colour) for colour in (RED, GREEN, BLUE))
    assert red[0] < green[0] < blue[0]
    assert red[1] == green[1] == blue[1]
    assert box(made, PINK) is None  # only the first picture of a prompt
    assert [step for step, _ in sheets(tmp_path)] == [0, 100, 200]


def test_progress_goes_on_after_a_restart_and_survives_broken_files(tmp_path):
    for step, colour in ((0, RED), (100, PINK), (200, GREEN)):
        write_samples(tmp_path, step, [("a cat", [flat(colour)])])
    (tmp_path / "first" / "step-00000200.json").write_text("{")
    (tmp_path / "first" / "step-00000000-00.png").write_bytes(b"x")
    write_samples(tmp_path, 100, [("a cat", [flat(BLUE)])])  # done again
    made = progress(tmp_path)
    assert box(made, BLUE) is not None
    assert {box(made, colour) for colour in (RED, GREEN, PINK)} == {None}


def test_progress_shows_the_prompts_of_now_and_only_so_many_times(tmp_path):
    for step in range(0, 2000, 100):
        shade = (step // 10, 255 - step // 10, 7)
        write_samples(tmp_path, step, [("old", [flat(PINK)]), ("cat", [flat(shade)])], most=5)
    write_samples(tmp_path, 2000, [("cat", [flat(BLUE)]), ("new", [flat(RED)])], most=5)
    made = progress(tmp_path)
    assert box(made, PINK) is None
    shown = [step for step in range(0, 2000, 100) if box(made, (step // 10, 255 - step // 10, 7))]
    assert shown == [0, 500, 1000, 1500]
    assert box(made, BLUE)[0] == box(made, RED)[0]  # the last time
    facts = json.loads((tmp_path / "first" / "step-00002000.json").read_text())
    assert [sample["prompt"] for sample in facts["samples"]] == ["cat", "new"]
