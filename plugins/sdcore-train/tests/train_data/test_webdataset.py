"""WebDataset shards."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from sdcore_train.config import Source
from sdcore_train.data import DataError
from sdcore_train.data.shard_names import expand_braces

from .kit import assert_same, data_of, noise, pictures, take


def png(seed, height=16, width=16):
    stream = io.BytesIO()
    noise(seed, height, width).save(stream, "PNG")
    return stream.getvalue()


def shard(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1700000000
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    for number in range(3):
        members = {}
        for index in range(4):
            seed = 4 * number + index
            members[f"some/{seed:05d}.png"] = png(seed)
            members[f"some/{seed:05d}.txt"] = f"caption {seed}".encode()
        shard(tmp_path / f"set-{number:03d}.tar", members)
    return tmp_path


def test_shards_give_what_a_folder_gives(shards, tmp_path):
    data = data_of(Source(path=f"{shards}/set-{{000..002}}.tar"), batch_size=3)
    assert [r.key for r in data.records][3:5] == ["set-000.tar:some/00003", "set-001.tar:some/00004"]
    folder = data_of(pictures(tmp_path / "folder", [(16, 16)] * 12), batch_size=3)
    for ours, theirs in zip(take(data, 6), take(folder, 6), strict=True):
        assert ours.captions == theirs.captions
        assert (ours.pixels == theirs.pixels).all()
    assert_same(take(data_of(shards, batch_size=3), 3, 2), take(data, 5)[2:])


@pytest.mark.parametrize(("source", "count"), [("", 12), ("set-001.tar", 4), ("set-{000,002}.tar", 8)])
def test_one_shard_or_a_folder_of_them(shards, source, count):
    assert len(data_of(shards / source).records) == count


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a{000..002}", ["a000", "a001", "a002"]),
        ("a{8..11}", ["a8", "a9", "a10", "a11"]),
        ("{a,b}-{1..2}", ["a-1", "a-2", "b-1", "b-2"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_are_expanded_as_in_a_shell(pattern, names):
    assert expand_braces(pattern) == names


def test_members_of_a_sample(tmp_path):
    half = Image.new("L", (16, 16), 0)
    stream = io.BytesIO()
    half.save(stream, "PNG")
    members = {
        "a.jpg.png": png(0),
        "a.json": json.dumps(
            {"caption": "from json", "score": 3, "width": 16, "height": 16, "url": "u", "key": "k"}
        ).encode(),
        "a.txt": b"from txt",
        "a.mask.png": stream.getvalue(),
        "b.PNG": png(1),
        "b.caption": b"one\ntwo",
        "b.json": b'{"width": 999, "height": 999}',
        "c.input.png": png(2),
        "c.mask.png": png(3),
        "c.txt": b"c",
        "d.txt": b"no picture",
        "./e.webp": png(4),
        "e.txt": b"e",
    }
    with tarfile.open(shard(tmp_path / "x.tar", members), "a") as tar:
        tar.add(tmp_path, "last", recursive=False)  # a folder behind the last file
    found = {r.key.removeprefix("x.tar:"): r for r in data_of(tmp_path).records}
    assert list(found) == ["a", "b", "c", "e"]
    assert found["a"].captions == ("from json",)
    assert found["a"].score == 3
    assert found["a"].size == (16, 16)
    assert dict(found["a"].extra) == {"url": "u", "key": "k"}
    assert found["a"].mask().getextrema() == (0, 0)
    assert found["b"].size == (16, 16)
    assert found["b"].captions == ("one", "two")
    assert found["b"].mask is None
    assert np.array_equal(np.asarray(found["c"].read()), np.asarray(noise(2)))
    texts = data_of(Source(path=str(tmp_path), captions="txt", caption="x")).records
    assert [r.captions[0] for r in texts] == ["from txt", "one", "c", "e"]


def test_a_sample_of_several_pictures(tmp_path):
    shard(tmp_path / "x.tar", {"a.before.png": png(0), "a.after.png": png(1), "a.txt": b"x"})
    with pytest.raises(DataError, match=r"x\.tar:a: has several pictures \(after\.png, before\.png\): .* image_column"):
        data_of(tmp_path)
    data = data_of(Source(path=str(tmp_path), image_column="after.png", controls="before"))
    assert np.array_equal(np.asarray(data.records[0].read()), np.asarray(noise(1)))
    (batch,) = take(data, 1)
    assert (batch.controls[0].permute(1, 2, 0).mul(255).round().numpy() == np.asarray(noise(0))).all()


def test_stamps_follow_the_content(tmp_path):
    def stamps(first, second):
        shard(tmp_path / "x.tar", {"a.png": first, "b.png": second})
        return [r.stamp for r in data_of(Source(path=str(tmp_path), caption="")).records]

    before = stamps(png(0), png(1))
    after = stamps(png(0), png(2))
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert stamps(png(0), png(1)) == before


def test_a_shard_that_was_cut_off(shards):
    path = shards / "set-001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        cut = tar.getmember("some/00006.png").offset_data + 100
    path.write_bytes(whole[:cut])
    data = data_of(shards)
    assert len(data.records) == 4 + 2 + 4
    reasons = dict(data.skipped)
    assert "the shard is not whole" in reasons["set-001.tar"]
    with pytest.raises(DataError, match=r"set-001\.tar: the shard is not whole"):
        data_of(shards, broken="error")
    path.write_bytes(whole[: 2 * 2048] + b"garbage" * 100 + whole[2 * 2048 + 700 :])
    assert "set-001.tar" in dict(data_of(shards).skipped)


def test_broken_members_are_skipped(tmp_path):
    shard(
        tmp_path / "x.tar",
        {"a.png": b"nothing", "a.txt": b"x", "b.png": png(0), "b.json": b"{", "c.png": png(1), "c.txt": b"c"}
        | {"d.png": png(2), "d.json": b"[1]"},
    )
    data = data_of(tmp_path)
    assert [r.key for r in data.records] == ["x.tar:c"]
    reasons = dict(data.skipped)
    assert "not a picture" in reasons["x.tar:a"]
    assert "cannot be read" in reasons["x.tar:b"]
    assert "not an object" in reasons["x.tar:d"]


def test_wrong_shards(shards):
    wrong = {
        f"{shards}/set-{{000..004}}.tar": r"2 of 5 shards are not there: .*set-003\.tar, .*set-004\.tar",
        f"{shards}/set-{{5..2}}.tar": "counts down",
        f"{shards}/set-{{x}}.tar": "neither a range",
        "https://example.org/{0..3}.tar": "download them first",
        "gone.tar": r"1 of 1 shards are not there: gone\.tar",
    }
    for source, message in wrong.items():
        with pytest.raises(DataError, match=message):
            data_of(Source(path=source))
    shard(shards / "more/packed.tar", {"a.png": png(0), "a.txt": b"x"}, "w:gz")
    with pytest.raises(DataError, match=r"packed\.tar: is compressed, .*unpack it"):
        data_of(shards / "more")
    (shards / "none").mkdir()
    with pytest.raises(DataError, match=r"holds no \.tar file"):
        data_of(Source(path=str(shards / "none"), kind="webdataset"))
    shard(shards / "bare.tar", {"a.png": png(0)})
    with pytest.raises(DataError, match=r"no caption, such as a?.*in a \.json file and in a \.txt or \.caption file"):
        data_of(shards / "bare.tar")
