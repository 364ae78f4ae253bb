"""Folders of pictures: formats, metadata, masks, control pictures, and what is wrong with them."""

import json
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_train.config import Source
from sdcore_train.data import DataError, headers

from .kit import break_body, data_of, noise, pictures, take


def plain(folder, **source):
    return data_of(Source(path=str(folder), caption="x", **source))


def test_every_format_is_read_and_links_are_followed(tmp_path):
    picture = Image.new("RGB", (24, 16), (200, 100, 50))
    inside = tmp_path / "data/below"
    inside.mkdir(parents=True)
    for name in ("a.png", "b.jpg", "c.JPEG", "d.webp", "e.bmp", "f.gif"):
        picture.save(inside / name)
    (inside / "notes.md").write_text("no picture")
    (tmp_path / "data/.hidden").mkdir()
    picture.save(tmp_path / "data/.hidden/x.png")
    picture.save(inside / ".y.png")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    data = plain(tmp_path / "data")
    assert [r.key for r in data.records] == [
        f"below/{n}" for n in ("a.png", "b.jpg", "c.JPEG", "d.webp", "e.bmp", "f.gif")
    ]
    for record in data.records:
        assert record.size == (16, 24)
        assert np.abs(np.asarray(record.read()).astype(int) - [200, 100, 50]).max() <= 6


def test_pictures_are_turned_put_on_white_and_taken_from_the_first_frame(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("turned.jpg", "turned.png"):
        Image.new("RGB", (32, 16), "red").save(tmp_path / name, exif=exif)
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "red")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save(tmp_path / "deep.png")
    found = {r.key: r for r in plain(tmp_path).records}
    for name in ("turned.jpg", "turned.png"):
        assert found[name].size == (32, 16)
        assert found[name].read().size == (16, 32)
    assert found["glass.png"].read().getpixel((0, 0)) == (255, 255, 255)
    assert found["moves.gif"].read().getpixel((0, 0)) == (0, 0, 255)
    assert found["deep.png"].read().getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
def test_sizes_come_from_the_first_bytes(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    big = noise(0, 700, 900)
    big.save(path, **({"icc_profile": bytes(9000)} if suffix == "png" else {}))
    data = path.read_bytes()
    amounts = []

    def read(count):
        amounts.append(count)
        return data if count < 0 else data[:count]

    assert headers.picture_size(data[: headers.HEAD], read) == (700, 900)
    if suffix == "jpg":
        assert amounts == []
    if suffix != "webp":  # whose header Pillow only reads of a whole file
        assert -1 not in amounts


def test_a_long_preview_in_a_photo_is_no_obstacle(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    exif[0x010E] = "x" * 60000
    noise(0, 20, 50).save(tmp_path / "a.jpg", exif=exif)
    (record,) = plain(tmp_path).records
    assert record.size == (50, 20)


def test_metadata_gives_columns_scores_and_sizes(tmp_path):
    folder = pictures(
        tmp_path, [(16, 24)] * 2, score=[4.5, None], height=[16, 16], width=[24, 24], artist=["A", None], likes=[3, 4]
    )
    one, two = data_of(folder).records
    assert (one.score, two.score) == (4.5, None)
    assert dict(one.extra) == {"artist": "A", "likes": 3}
    assert data_of(Source(path=str(folder), score_column="likes")).records[1].score == 4


def test_said_sizes_spare_a_look_unless_they_are_wrong(tmp_path, monkeypatch):
    folder = pictures(tmp_path, [(16, 16)] * 5, height=[16] * 5, width=[16] * 5)
    looks = []
    real = headers.picture_size
    monkeypatch.setattr("sdcore_train.data.rows.picture_size", lambda *a: looks.append(1) or real(*a))
    assert len(data_of(folder).records) == 5
    assert len(looks) == 1
    for index in range(5):
        noise(index, 16, 24).save(folder / f"{index:03d}.png")
    looks.clear()
    assert [r.size for r in data_of(folder).records] == [(16, 24)] * 5
    assert len(looks) == 5
    # Right in the beginning and wrong later: seen when the picture is read.
    noise(0, 16, 16).save(folder / "000.png")
    data = data_of(folder)
    take(data, 5)
    assert [reason for _, reason in data.skipped] == ["it is 16x24 pixels, where 16x16 was said"] * 4


def test_stamps_change_with_the_file_and_not_without(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 2)
    before = [r.stamp for r in data_of(folder).records]
    prints = data_of(folder).fingerprint
    assert [r.stamp for r in data_of(os.path.relpath(folder)).records] == before
    assert len(set(before)) == 2
    os.utime(folder / "001.png", ns=(1, time.time_ns() + 10**9))
    after = [r.stamp for r in data_of(folder).records]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert data_of(folder).fingerprint == prints  # a copy has another time, and is the same data
    noise(7, 16, 16).save(folder / "001.png")
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes() + b" ")
    changed = data_of(folder).fingerprint
    assert {name for name, value in changed.items() if value != prints[name]} == {"files"}


def test_what_the_training_itself_draws_is_no_data(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)])
    pictures(folder / "trained/samples", [(16, 16)] * 3, rows=False)
    assert len(data_of(Source(path=str(folder), caption="x"), output=str(folder / "trained")).records) == 1
    with pytest.raises(DataError, match="is the output folder too"):
        data_of(Source(path=str(folder), caption="x"), output=str(folder))


def test_what_another_training_has_drawn_is_no_data(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)])
    pictures(folder / "earlier/samples", [(16, 16)] * 3, rows=False)
    (folder / "earlier" / "checkpoints").mkdir()
    source = Source(path=str(folder), caption="x")
    assert len(data_of(source).records) == 4
    (folder / "earlier" / "log.jsonl").touch()
    assert len(data_of(source).records) == 1


def test_where_takes_some_of_the_pictures(tmp_path):
    folder = pictures(
        tmp_path, [(16, 16)] * 4, kind=["a", "b", "c", None], level=[1, 2, 2, 2], tags=[["x"], ["x", "y"], [], ["y"]]
    )

    def keys(**where):
        return [int(r.key[:3]) for r in data_of(Source(path=str(folder), where=where)).records]

    assert keys(kind=("a", "c")) == [0, 2]
    assert keys(level=("2",)) == [1, 2, 3]
    assert keys(level=("2",), tags=("y",)) == [1, 3]
    with pytest.raises(DataError, match=r"`where` leaves no pictures \(kind in \['z'\]\); there are kind: a, b, c"):
        keys(kind=("z",))
    with pytest.raises(DataError, match="colour: no such column"):
        keys(colour=("red",))


def two_colours(size=(16, 16)):
    picture = Image.new("RGB", size[::-1], "black")
    picture.paste("white", (0, 0, size[1] // 2, size[0]))
    return picture


@pytest.mark.parametrize("place", ["inside", "beside", "column"])
@pytest.mark.parametrize("field", ["masks", "controls"])
def test_masks_and_control_pictures(tmp_path, monkeypatch, field, place):
    monkeypatch.chdir(tmp_path)
    columns = {"edges": ["extra/x/000.jpg", "extra/x/001.jpg"]} if place == "column" else {}
    folder = pictures(tmp_path / "data/x", [(16, 16)] * 2, **columns).parent
    extra = {"inside": folder / "extra", "beside": tmp_path / "extra", "column": folder / "x/extra"}[place] / "x"
    extra.mkdir(parents=True)
    for name in ("000.jpg", "001.jpg"):
        two_colours((32, 32)).save(extra / name, quality=100)
    data = data_of(Source(path="data", **{field: "edges" if place == "column" else "extra"}))
    assert [r.key for r in data.records] == ["x/000.png", "x/001.png"]
    (batch,) = take(data, 1)
    found = getattr(batch, field)
    assert found.shape == (1, 1 if field == "masks" else 3, 16, 16)
    assert found.dtype == torch.float32
    assert found[..., :7].min() > 0.9
    assert found[..., 9:].max() < 0.1
    assert getattr(batch, "controls" if field == "masks" else "masks") is None
    assert dict(data.records[0].extra) == {}


def test_pictures_of_sources_without_control_pictures_get_black_ones(tmp_path):
    one = pictures(tmp_path / "one", [(16, 16)])
    (tmp_path / "edges").mkdir()
    two_colours().save(tmp_path / "edges/000.png")
    two = pictures(tmp_path / "two", [(16, 16)])
    data = data_of(Source(path=str(one), controls=str(tmp_path / "edges")), two)
    found = {batch.keys[0]: batch.controls for batch in take(data, 2)}
    assert found[f"{two}/000.png"].max() == 0
    assert found[f"{one}/000.png"].max() == 1


def test_some_control_pictures_are_not_enough(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 2)
    (tmp_path / "edges").mkdir()
    two_colours().save(tmp_path / "edges/001.png")
    with pytest.raises(DataError, match=r"1 of 2 pictures have no control picture, such as 000\.png"):
        data_of(Source(path=str(folder), controls=str(tmp_path / "edges")))


def test_a_mask_of_other_proportions_breaks_its_picture(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 2)
    (tmp_path / "m").mkdir()
    two_colours((16, 32)).save(tmp_path / "m/001.png")
    data = data_of(Source(path=str(folder), masks=str(tmp_path / "m")))
    take(data, 2)
    ((key, reason),) = data.skipped
    assert key == "001.png"
    assert "its mask is 16x32 pixels, of other proportions than the picture (16x16)" in reason


WRONG_METADATA = {
    "not json": ("{'file_name': 'a.png'}", r"metadata\.jsonl, line 1: is not JSON"),
    "no object": ('\n["a.png"]', r"line 2: is not an object"),
    "no name": ('{"text": "x"}', "has no file_name"),
    "twice": ('{"file_name": "a.png", "text": "x"}\n' * 2, r"line 2: a\.png was named before"),
    "score": ('{"file_name": "a.png", "text": "x", "score": "good"}', "score is 'good': a finite number"),
    "nan": ('{"file_name": "a.png", "text": "x", "score": NaN}', "score is nan: a finite number"),
    "size": ('{"file_name": "a.png", "text": "x", "height": 0, "width": 3}', "height and width are 0 and 3"),
    "mask": ('{"file_name": "a.png", "text": "x", "mask": 3}', r"line 1: its mask is 3"),
}


@pytest.mark.parametrize("case", WRONG_METADATA)
def test_wrong_metadata(tmp_path, case):
    noise(0).save(tmp_path / "a.png")
    text, message = WRONG_METADATA[case]
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        data_of(tmp_path)


def test_text_that_is_not_utf8(tmp_path):
    noise(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("Ärger".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt: is not UTF-8"):
        data_of(tmp_path)


def test_broken_files_and_files_that_are_not_there_are_listed(tmp_path):
    folder = pictures(tmp_path, [(16, 16)] * 6, mask=[None, None, None, None, "m.png", None])
    (folder / "000.png").unlink()
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:20])  # within its header
    (folder / "001.png").write_bytes(b"no picture at all")
    noise(2, 4, 4).save(folder / "002.png")
    said = []
    data = data_of(folder, said=said)
    assert [r.key for r in data.records] == ["003.png"]
    reasons = dict(data.skipped)
    assert "metadata.jsonl names it" in reasons["000.png"]
    assert "not a picture" in reasons["001.png"]
    assert "4x4 pixels; each side needs at least 8" in reasons["002.png"]
    assert "its mask" in reasons["004.png"]
    assert "005.png" in reasons
    assert len(said) == 1
    assert said[0].startswith("5 pictures are left out: 000.png: ")
    with pytest.raises(DataError, match=r"000\.png: .*not there.*pictures\.broken"):
        data_of(folder, broken="error")


def test_no_pictures(tmp_path):
    with pytest.raises(DataError, match="there is no folder nowhere"):
        data_of("nowhere")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match=r"file\.txt is a file: give the folder"):
        data_of(tmp_path / "file.txt")
    with pytest.raises(DataError, match=r"holds no pictures that can be used$"):
        data_of(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 were left out; a\.png: it is not a picture"):
        plain(tmp_path)
    with pytest.raises(DataError, match="data: there is none"):
        data_of()


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "d", [(16, 16)])

    def walk(top, followlinks, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match=r"the folder cannot be read \(Permission denied\)"):
        data_of(folder)


def test_masks_that_are_nowhere(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)])
    (tmp_path / "empty").mkdir()
    for value, message in {
        "no/where": "there is no folder no/where",
        "nothing": "'nothing' is neither a folder, below the pictures or here, nor a column",
        str(tmp_path / "empty"): "holds no pictures",
        str(folder): "is the folder of the pictures themselves",
    }.items():
        with pytest.raises(DataError, match=message):
            data_of(Source(path=str(folder), masks=value))


def test_fewer_pictures_than_a_batch(tmp_path):
    folder = pictures(tmp_path, [(16, 16)] * 3)
    with pytest.raises(DataError, match=r"3 pictures are fewer than a batch \(8\): set batch_size to 3 .* 3 or more"):
        data_of(folder, batch_size=8)
    with pytest.raises(DataError, match=r"fewer than a batch \(4 of 2 processes\): set batch_size to 1"):
        data_of(folder, batch_size=2, processes=2)
    assert data_of(Source(path=str(folder), repeats=3), batch_size=8).batches_per_epoch == 2


def test_small_pictures(tmp_path):
    folder = pictures(tmp_path, [(16, 16), (8, 8), (16, 12)])
    assert len(data_of(folder, small="enlarge").records) == 3
    data = data_of(folder, small="skip", buckets=False)
    assert [r.key for r in data.records] == ["000.png"]
    assert data.skipped == (
        ("001.png", "8x8 pixels are too few for 16x16"),
        ("002.png", "16x12 pixels are too few for 16x16"),
    )
    with pytest.raises(DataError, match=r"2 pictures are smaller .*001\.png \(8x8 for 16x16\), 002\.png"):
        data_of(folder, small="error", buckets=False)
    with pytest.raises(DataError, match=r"no pictures are left: 000\.png: 16x16 pixels are too few"):
        data_of(folder, small="skip", size=(32, 32))


def test_sizes_that_the_model_cannot_take(tmp_path):
    folder = pictures(tmp_path, [(16, 16)])
    with pytest.raises(DataError, match=r"the size is 20x16 .* multiples of 8: take 16x16"):
        data_of(folder, size=(20, 16))


def test_scores_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"score_power is 2, but no picture has a score \(column score\)"):
        data_of(pictures(tmp_path, [(16, 16)]), score_power=2.0)


def test_rare_sizes_are_told(tmp_path):
    said = []
    data = data_of(pictures(tmp_path, [(32, 32)] * 4 + [(24, 40)]), size=(32, 32), batch_size=4, said=said)
    assert dict(data.buckets) == {(24, 40): 1, (32, 32): 4}
    assert len(said) == 1
    assert "24x40 (1)" in said[0]


def test_a_picture_that_breaks_only_its_body_is_found_when_read(tmp_path):
    folder = pictures(tmp_path, [(16, 16)] * 2)
    break_body(folder / "001.png")
    assert len(data_of(folder).records) == 2
    with pytest.raises(OSError, match="truncated or damaged"):
        data_of(folder).records[1].read()


def test_metadata_of_many_pictures_is_read_at_once(tmp_path):
    # 2000 rows with sizes: no file but the first is opened, so that missing pixels do not matter.
    noise(0).save(tmp_path / "0.png")
    rows = [{"file_name": "0.png", "text": "x"}]
    for index in range(1, 2000):
        (tmp_path / f"{index}.png").touch()
        rows.append({"file_name": f"{index}.png", "text": "x", "height": 16, "width": 16})
    rows[0] |= {"height": 16, "width": 16}
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(data_of(tmp_path).records) == 2000
