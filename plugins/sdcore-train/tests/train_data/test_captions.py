"""Which captions a picture has, and what is made of them at each visit."""

from collections import Counter

import pytest
from sdcore_train.config import Captions, Source
from sdcore_train.data import DataError
from sdcore_train.data.captions import caption_of_visit, vary_tags

from .kit import data_of, noise


def visits(captions, count=4000, **options):
    return [caption_of_visit(captions, Captions(**{"dropout": 0.0, **options}), 5, visit) for visit in range(count)]


def test_each_visit_takes_one_of_the_captions():
    seen = Counter(visits(["a", "b", "c", "d"]))
    assert set(seen) == set("abcd")
    assert all(880 < count < 1120 for count in seen.values())
    assert visits(["a", "b"], 50) == visits(["a", "b"], 50)


def test_dropped_captions_are_empty_also_with_a_prefix():
    seen = Counter(visits(["cat"], dropout=0.25, prefix="icon of a "))
    assert set(seen) == {"", "icon of a cat"}
    assert seen[""] / 4000 == pytest.approx(0.25, abs=0.025)
    assert set(visits(["cat"], 50, dropout=1.0)) == {""}


def test_dropping_does_not_depend_on_which_caption_is_taken():
    both = [visits(["a", "b"], dropout=d) for d in (0.0, 0.3)]
    kept = [(plain, varied) for plain, varied in zip(*both, strict=True) if varied]
    assert all(plain == varied for plain, varied in kept)
    assert Counter(plain for plain, _ in kept)["a"] / len(kept) == pytest.approx(0.5, abs=0.04)


def test_tags_at_the_front_stay_and_the_others_are_shuffled():
    caption = "1girl, solo, red hair, smile, hat"
    seen = Counter(visits([caption], shuffle=True, keep=2))
    assert len(seen) == 6
    assert all(550 < count < 790 for count in seen.values())
    assert all(
        found.startswith("1girl, solo, ") and sorted(found.split(", ")) == sorted(caption.split(", ")) for found in seen
    )
    assert set(visits([caption], 100, shuffle=True, keep=9)) == {caption}


def test_tags_are_left_out_but_not_those_in_front():
    seen = visits(["a, b, c"], tag_dropout=0.4, keep=1)
    assert all(found.split(", ")[0] == "a" for found in seen)
    for tag in "bc":
        assert sum(tag in found for found in seen) / 4000 == pytest.approx(0.6, abs=0.03)
    assert sum("b" in found and "c" in found for found in seen) / 4000 == pytest.approx(0.36, abs=0.03)
    assert set(visits(["a, b"], 20, tag_dropout=1.0)) == {""}


def test_captions_without_variation_are_left_as_they_are():
    odd = " a ,b,,  c "
    assert visits([odd], 3) == [odd] * 3
    assert vary_tags(odd, Captions(keep=9), 0) == "a, b, c"
    assert vary_tags("x | y", Captions(separator="|", keep=9), 0) == "x| y"
    assert vary_tags("x; y", Captions(separator="; ", keep=9), 0) == "x; y"


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(["red_apple-01.png", "sub/both.png", "sub/text.png", "row.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(index).save(tmp_path / name)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "row.png", "prompt": "a row"}\n')
    (tmp_path / "sub/metadata.jsonl").write_text(
        '{"file_name": "both.png", "captions": ["one", " ", "two"], "text": "ignored"}\n\n'
    )
    (tmp_path / "sub/both.txt").write_text("from text\n")
    (tmp_path / "sub/text.txt").write_text("\ufefffirst line\n\n  second line  \n", encoding="utf-8")
    return tmp_path


def captions(folder, **source):
    return {r.key: r.captions for r in data_of(Source(path=str(folder), **source)).records}


def test_captions_come_from_the_first_place_that_has_them(folder):
    assert captions(folder, caption="none of its own") == {
        "red_apple-01.png": ("none of its own",),
        "row.png": ("a row",),
        "sub/both.png": ("one", "two"),
        "sub/text.png": ("first line", "second line"),
    }


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("txt", ["x", "x", "from text", "first line"]),
        ("metadata", ["x", "a row", "one", "x"]),
        ("name", ["red apple", "row", "both", "text"]),
        ("none", ["x"] * 4),
    ],
)
def test_one_place_can_be_demanded(folder, rule, expected):
    assert [found[0] for found in captions(folder, captions=rule, caption="x").values()] == expected


def test_pictures_without_captions_are_named_with_what_to_do(folder):
    with pytest.raises(DataError) as error:
        data_of(folder)
    for part in (
        "1 of 4 pictures",
        "red_apple-01.png",
        "metadata.jsonl",
        ".txt file",
        "captions = 'name'",
        "`caption`",
    ):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"4 of 4 pictures have no caption, .*metadata.jsonl \(column 'words'\)"):
        captions(folder, captions="metadata", caption_column="words")
    assert set(captions(folder, captions="none", caption="").values()) == {("",)}


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("red_apple-01", "red apple"),
        ("cat (2)", "cat"),
        ("007", "007"),
        ("a  big__dog", "a big dog"),
        ("route-66-sign", "route 66 sign"),
    ],
)
def test_names_as_captions(tmp_path, name, caption):
    noise(0).save(tmp_path / f"{name}.png")
    assert captions(tmp_path, captions="name") == {f"{name}.png": (caption,)}


def test_a_caption_that_is_not_text_is_an_error(tmp_path):
    noise(0).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": 7}')
    with pytest.raises(DataError, match=r"a\.png: its text is 7: a caption or a list"):
        data_of(tmp_path)
