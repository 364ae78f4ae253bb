"""Hugging Face datasets on disk."""

import io
import sys

import numpy as np
import pytest
from sdcore_train.config import Source
from sdcore_train.data import DataError

from .kit import data_of, noise, pictures, take


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "sdcore-train\[datasets\]"'):
        data_of(tmp_path)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    module = pytest.importorskip("datasets")
    module.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    module.disable_progress_bars()
    return module


def png(seed):
    stream = io.BytesIO()
    noise(seed).save(stream, "PNG")
    return stream.getvalue()


def rows(datasets, **columns):
    table = {"image": [{"bytes": png(i), "path": f"red_{i}.png"} for i in range(4)], **columns}
    return datasets.Dataset.from_dict(table).cast_column("image", datasets.Image())


@pytest.fixture(scope="module")
def dataset(datasets):
    return rows(
        datasets,
        text=[f"caption {i}" for i in range(4)],
        score=[1, None, 3, 4],
        height=[16, 16, 5, 5],
        width=[16, 16, 7, 7],
        tags=[["a", "b"]] * 4,
    )


@pytest.mark.parametrize("layout", ["saved", "parquet", "splits", "picked"])
def test_rows_become_records(dataset, datasets, tmp_path, layout):
    root = tmp_path / "set"
    if layout == "saved":
        dataset.save_to_disk(str(root))
    elif layout == "splits":
        datasets.DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(str(root))
    elif layout == "picked":
        dataset.select([3, 2, 1, 0]).select([3, 2, 1, 0]).save_to_disk(str(root))
    else:
        (root / "data").mkdir(parents=True)
        dataset.to_parquet(root / "data/train-00000-of-00001.parquet")
    data = data_of(root)
    assert [r.key for r in data.records] == [f"set:000000{i}" for i in range(4)]
    assert [r.captions for r in data.records] == [(f"caption {i}",) for i in range(4)]
    assert [r.score for r in data.records] == [1, None, 3, 4]
    assert [r.size for r in data.records] == [(16, 16)] * 4  # and not what the columns say
    assert dict(data.records[0].extra) == {"tags": ["a", "b"]}
    folder = data_of(pictures(tmp_path / "folder", [(16, 16)] * 4))
    for ours, theirs in zip(take(data, 4), take(folder, 4), strict=True):
        assert ours.captions == theirs.captions
        assert (ours.pixels == theirs.pixels).all()
    assert [r.stamp for r in data_of(root).records] == [r.stamp for r in data.records]
    assert len({r.stamp for r in data.records}) == 4


def test_columns_of_other_names_and_kinds(datasets, tmp_path):
    pictures(tmp_path / "files", [(16, 16)] * 2, rows=False)
    table = {
        "photo": [png(5), png(6)],
        "edges": ["files/000.png", "files/001.png"],
        "mask": [None, {"bytes": png(7), "path": None}],
        "words": [["one", "two"], ["three"]],
    }
    datasets.Dataset.from_dict(table).save_to_disk(str(tmp_path))
    data = data_of(Source(path=str(tmp_path), image_column="photo", controls="edges", caption_column="words"))
    one, two = data.records
    assert one.captions == ("one", "two")
    assert np.array_equal(np.asarray(two.read()), np.asarray(noise(6)))
    assert np.array_equal(np.asarray(two.control()), np.asarray(noise(1)))
    assert one.mask is None
    assert two.mask().mode == "L"
    assert take(data, 1)[0].controls is not None


def test_stamps_see_a_change_at_the_end_of_a_file(datasets, tmp_path):
    stream = io.BytesIO()
    noise(0, 64, 64).save(stream, "BMP")
    data = stream.getvalue()
    assert len(data) > 8192
    table = {"image": [data, data[:-1] + bytes([data[-1] ^ 1])], "text": ["x"] * 2}
    datasets.Dataset.from_dict(table).save_to_disk(str(tmp_path / "d"))
    one, two = (record.stamp.split()[0] for record in data_of(tmp_path / "d").records)
    assert one != two


def test_rows_without_or_with_broken_pictures_are_skipped(datasets, tmp_path):
    table = {"image": [{"bytes": png(0), "path": None}, {"bytes": b"broken", "path": None}, None], "text": ["x"] * 3}
    datasets.Dataset.from_dict(table).save_to_disk(str(tmp_path / "d"))
    data = data_of(tmp_path / "d")
    assert [r.key for r in data.records] == ["d:0000000"]
    assert [key for key, _ in data.skipped] == ["d:0000001", "d:0000002"]


def test_wrong_datasets(dataset, datasets, tmp_path):
    datasets.DatasetDict(dev=dataset, test=dataset).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match="has the splits dev, test: give the folder of one"):
        data_of(tmp_path / "splits")
    assert len(data_of(tmp_path / "splits/dev").records) == 4
    dataset.save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(DataError, match="has no column 'picture'; it has image, text"):
        data_of(Source(path=str(tmp_path / "plain"), image_column="picture"))
    with pytest.raises(DataError, match="masks: there is no column 'alpha'"):
        data_of(Source(path=str(tmp_path / "plain"), masks="alpha"))
    with pytest.raises(DataError, match=r"4 of 4 pictures have no caption.*in the columns of the data set"):
        data_of(Source(path=str(tmp_path / "plain"), caption_column="words"))
    assert data_of(Source(path=str(tmp_path / "plain"), captions="name")).records[2].captions == ("red",)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be opened as a Hugging Face dataset"):
        data_of(tmp_path / "bad")
