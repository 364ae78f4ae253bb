"""The recipe of the data set: names, captions, pictures, near duplicates, and that it is the same every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent.parent / "recipe"))

from mini_recipe import bpe, captions, concepts, dataset, duplicates, pictures, sources
from mini_recipe.concepts import Concept


def entry(label: str, subgroup: int, tags: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {"label": label, "hexcode": "1F000", "emoji": label, "subgroup": subgroup, "tags": list(tags), **more}


SUBGROUPS = {"1": "food-fruit", "2": "hands", "3": "country-flag", "4": "time", "5": "keycap"}


def test_which_emoji_are_concepts() -> None:
    found = concepts.concepts(
        [
            entry("Red Apple", 1, ("fruit", "pineapple", "octopus arm")),
            entry("baby", 1, skins=[{}]),
            entry("clapping hands", 2),
            entry("flag: Chile", 3),
            entry("keycap: 5", 5),
            entry("three o’clock", 4),
            entry("three-thirty", 4),
            entry("four o’clock", 4),
            entry("pineapple", 1),
            {"label": "regional indicator A", "hexcode": "1F1E6", "emoji": "A"},
        ],
        SUBGROUPS,
        {"Red Apple": {"default": ["ripe"], "tts": ["red apple"]}},
        held_out=("pineapple", "octopus"),
    )
    assert [concept.name for concept in found] == ["red apple", "three o'clock"]
    assert found[0].keywords == ("fruit", "ripe")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an octopus", True),
        ("two octopuses swim", False),
        ("teapots", True),
        ("a jack o lantern", True),
        ("tea", False),
    ],
)
def test_mentions_of_held_out_names(text: str, found: bool) -> None:
    assert concepts.mentions(text, ("octopus", "teapot", "jack-o-lantern")) is found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("red apple", "a red apple"),
        ("orange circle", "an orange circle"),
        ("unicorn", "a unicorn"),
        ("unamused face", "an unamused face"),
        ("umbrella", "an umbrella"),
        ("hourglass done", "an hourglass done"),
        ("x-ray", "an x-ray"),
        ("euro banknote", "a euro banknote"),
        ("scissors", "scissors"),
        ("bus", "a bus"),
        ("wine glass", "a wine glass"),
        ("smiling face with halo", "a smiling face with halo"),
        ("glass of milk", "a glass of milk"),
        ("nest with eggs", "a nest with eggs"),
        ("money with wings", "money with wings"),
        ("woman's hat", "a woman's hat"),
        ("sushi", "sushi"),
        ("no entry", "no entry"),
    ],
)
def test_articles(name: str, wanted: str) -> None:
    assert captions.with_article(name) == wanted


APPLE = Concept("red apple", "1F34E", "food-fruit", ("fruit", "ripe", "mela"))
KEY = Concept("key", "1F511", "lock", ("lock", "fruit"))


def test_synonyms_are_narrow_and_no_names() -> None:
    many = [Concept(f"thing {number}", "1", "g", ("common", "key", "sad")) for number in range(7)]
    found = captions.synonyms([APPLE, KEY, *many])
    assert found["red apple"] == ("fruit", "ripe", "mela")
    assert found["thing 1"] == ()  # shared by many, the name of another, no noun


def test_captions_of_an_icon() -> None:
    made = [captions.icon_captions(APPLE, ("mela",), "flat", "sky blue", Random(seed)) for seed in range(40)]
    for texts in made:
        assert texts[0] == "an icon of a red apple, flat style, sky blue background"
        assert 4 <= len(texts) <= 8
        assert len(set(texts)) == len(texts)
        assert all("red apple" in text or "mela" in text for text in texts)
        assert any("mela" in text for text in texts)
        assert any("flat" not in text for text in texts) or any("sky blue" not in text for text in texts)
    assert len({text for texts in made for text in texts}) > 15


def test_captions_of_a_pair_keep_the_order() -> None:
    for seed in range(40):
        for text in captions.pair_captions("red apple", "key", False, "noto", "red", Random(seed)):
            apple_first = text.index("red apple") < text.index("key")
            if "left of" in text:
                assert apple_first
            if "right of" in text:
                assert not apple_first
        for text in captions.pair_captions("red apple", "key", True, "noto", "red", Random(seed)):
            apple_first = text.index("red apple") < text.index("key")
            if any(word in text for word in ("above", "on top of", "over")):
                assert apple_first
            if any(word in text for word in ("below", "under", "beneath")):
                assert not apple_first


def disc(colour: tuple[int, int, int], side: int = 256) -> Image.Image:
    icon = Image.new("RGBA", (side, side))
    ImageDraw.Draw(icon).ellipse((8, 8, side - 9, side - 9), fill=(*colour, 255))
    return icon


def test_compose_places_and_keeps_the_background() -> None:
    icon = disc((200, 0, 0))
    middle = np.asarray(pictures.compose(icon, "flat", (82, 180, 100), 64)).astype(int)
    assert (middle[:4] == (82, 180, 100)).all()
    assert (middle[:, -4:] == (82, 180, 100)).all()
    assert (middle[24:40, 24:40] == (200, 0, 0)).all()
    # No dark or light rims: but for the filter's small overshoot, every pixel lies between the two colours.
    assert (middle >= np.minimum((82, 180, 100), (200, 0, 0)) - 12).all()
    assert (middle <= np.maximum((82, 180, 100), (200, 0, 0)) + 12).all()
    moved = np.asarray(pictures.compose(icon, "flat", (255, 255, 255), 64, 0.5, (0.25, 0.0))).astype(int)
    red = (moved[..., 1] < 100).nonzero()
    assert abs(red[1].mean() - (48 - 0.5)) < 0.6
    assert abs(red[0].mean() - (32 - 0.5)) < 0.6


def test_line_art_is_light_on_dark() -> None:
    icon = disc((0, 0, 0))
    assert pictures.compose(icon, "line art", pictures.colours()["black"], 64).getpixel((32, 32)) == (255, 255, 255)
    assert pictures.compose(icon, "line art", pictures.colours()["yellow"], 64).getpixel((32, 32)) == (0, 0, 0)


def test_visible() -> None:
    assert "white" not in pictures.visible(disc((250, 250, 252)), "flat")
    assert "black" in pictures.visible(disc((250, 250, 252)), "flat")
    assert pictures.visible(disc((0, 0, 0)), "line art") == list(pictures.colours())


def test_near_duplicates() -> None:
    def signature(colour: tuple[int, int, int]) -> np.ndarray:
        return duplicates.signature(disc(colour), "flat")

    red, almost, blue = signature((200, 0, 0)), signature((204, 4, 0)), signature((0, 0, 200))
    styles = {
        "flat": {"first": red, "second": almost, "third": blue, "fourth": red},
        "noto": {"first": red, "second": almost, "third": blue, "fourth": blue[::-1].copy()},
    }
    gone, single = duplicates.resolve(["first", "second", "third", "fourth"], styles)
    assert gone == {"second": "first"}
    assert single == {("fourth", "flat")}


@pytest.fixture
def found() -> tuple[dataset.Catalogue, dict[Path, Image.Image]]:
    names = {"red apple": (220, 0, 0), "blue ball": (0, 0, 255), "key": (120, 120, 0)}
    icons = {name: {style: Path(name) / style for style in ("flat", "noto")} for name in names}
    kept = tuple(Concept(name, "1", "g", ("thing",)) for name in names)
    drawn = {path: disc(names[name], 64) for name, styles in icons.items() for path in styles.values()}
    return dataset.Catalogue(kept, icons), drawn


def test_data_set_is_the_same_every_time(
    found: tuple[dataset.Catalogue, dict[Path, Image.Image]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.icons, "STYLES", ("flat", "noto"))
    catalogue, drawn = found
    for name, seed, workers in (("one", 4, 1), ("two", 4, 2), ("three", 5, 1)):
        dataset.write(catalogue, tmp_path / name, 64, seed, 2, 12, drawn.__getitem__, workers)
    one, two, three = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two", "three"))
    assert one == two
    assert one != three
    lines = [json.loads(line) for line in one["metadata.jsonl"].decode().splitlines()]
    assert len(lines) == 3 * 2 * 3 + 12
    assert {line["kind"] for line in lines} == {"icon", "pair"}
    assert lines[0]["background"] == "white"
    for line in lines:
        with Image.open(tmp_path / "one" / line["file_name"]) as picture:
            assert picture.size == (64, 64)
            assert picture.getpixel((0, 0)) == pictures.colours()[line["background"]]
        if line["kind"] == "icon":
            assert line["captions"][0] == captions.full(line["concept"], line["style"], line["background"])


def test_poses_are_turned_smaller_and_elsewhere_and_change_nothing_else(
    found: tuple[dataset.Catalogue, dict[Path, Image.Image]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.icons, "STYLES", ("flat", "noto"))
    catalogue, drawn = found
    rows = {}
    for poses in (0, 3):
        dataset.write(catalogue, tmp_path / str(poses), 64, 4, 1, 4, drawn.__getitem__, poses=poses)
        lines = (tmp_path / str(poses) / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows[poses] = [json.loads(line) for line in lines]
    kinds = [row["kind"] for row in rows[3]]
    assert kinds.count("pose") == 3 * 2 * 3
    about = [(row["concept"], row["background"], row["captions"]) for row in rows[3] if row["kind"] != "pose"]
    assert about == [(row["concept"], row["background"], row["captions"]) for row in rows[0]]
    places = set()
    for row in rows[3]:
        if row["kind"] == "pose":
            with Image.open(tmp_path / "3" / row["file_name"]) as picture:
                pixels = np.asarray(picture, np.int16)
            there = np.abs(pixels - pictures.colours()[row["background"]]).max(-1) > 40
            down, across = np.nonzero(there)
            side = max(np.ptp(down), np.ptp(across)) + 1
            assert 0.3 * 64 < side < 0.875 * 64
            places.add((int(down.mean()), int(across.mean())))
    assert len(places) > 12


def test_pairs_stand_as_their_captions_say() -> None:
    red, blue = disc((220, 0, 0)), disc((0, 0, 255))
    beside = dataset.pair_picture(red, blue, "flat", (255, 255, 255), 64, stacked=False)
    assert beside.getpixel((16, 32)) == (220, 0, 0)
    assert beside.getpixel((48, 32)) == (0, 0, 255)
    above = dataset.pair_picture(red, blue, "flat", (255, 255, 255), 64, stacked=True)
    assert above.getpixel((32, 16)) == (220, 0, 0)
    assert above.getpixel((32, 48)) == (0, 0, 255)


def test_packages_are_checked(tmp_path: Path) -> None:
    package = sources.Package("@some/icons", "1.0.0", "0" * 64)
    with pytest.raises(sources.SourceError, match=r"cannot fetch @some/icons .* by hand: .*some-icons-1\.0\.0\.tgz"):
        sources.fetch(package, tmp_path, base="http://127.0.0.1:9/")
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / package.cached).write_bytes(b"something else")
    with pytest.raises(sources.SourceError, match="is not @some/icons"):
        sources.fetch(package, tmp_path)


def test_held_out_names() -> None:
    held = dataset.held_out()
    assert len(held) == 12
    assert all(concepts.plain(name) == name and kind for name, kind in held.items())


WORDS = ["a red apple, flat style", "a green apple, flat style", "an icon of an applet", "grapes and pineapples"]


def test_tokenizer(tmp_path: Path) -> None:
    counted = bpe.weights(WORDS * 20, ["strawberry", "blueberry"])
    assert counted["apple"] > counted["strawberry"] == 1
    learned = bpe.merges(counted, 60)
    assert learned == bpe.merges(counted, 60)
    tokenizer = bpe.save(learned, tmp_path / "tokenizer", 32)
    assert len(tokenizer) == 514 + len(learned)
    assert tokenizer.model_max_length == 32
    assert tokenizer.tokenize("a red APPLE") == ["a</w>", "red</w>", "apple</w>"]
    known = set(tokenizer.get_vocab())
    for word in ("zorblax", "naïve", "字"):
        pieces = tokenizer.tokenize(word)
        assert len(pieces) > 1
        assert set(pieces) <= known - {bpe.START, bpe.END}
    ids = tokenizer("a red apple", padding="max_length").input_ids
    assert len(ids) == 32
    assert ids[0] == len(tokenizer) - 2
    assert ids[4:] == [len(tokenizer) - 1] * 28
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a red apple"
