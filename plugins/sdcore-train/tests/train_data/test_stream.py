"""Batches: what is in them, that they are the same after resuming, and how they are read ahead."""

import gc
import json
import multiprocessing
import subprocess
import sys
import threading
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_train.config import Source
from sdcore_train.data import DataError, loading
from sdcore_train.data.ahead import read_ahead

from sdcore.images import image_to_tensor

from .kit import assert_same, break_body, data_of, noise, pictures, take

SIZES = [(32, 32)] * 9 + [(12, 24)] * 4 + [(40, 20)] * 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = pictures(
        tmp_path_factory.mktemp("stream") / "data",
        SIZES,
        captions=[[f"a, b{i}, c, d", f"e, f{i}, g"] for i in range(18)],
        mask=["masks/m.png" if i == 3 else None for i in range(18)],
    )
    (where / "masks").mkdir()
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (16, 0, 32, 32))
    half.save(where / "masks/m.png")
    return where


RANDOM = {
    "flip": True,
    "crop": "random",
    "dropout": 0.2,
    "shuffle": True,
    "keep": 1,
    "tag_dropout": 0.3,
    "batch_size": 4,
    "seed": 7,
    "size": (32, 32),
}


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_stream_goes_on_bit_for_bit_from_any_batch(folder, prefetch):
    whole = take(data_of(folder, prefetch=prefetch, **RANDOM), 20)
    assert len({batch.size for batch in whole}) == 3
    assert len({caption for batch in whole for caption in batch.captions}) > 20
    for start in (1, 7, 13):  # 6 batches an epoch
        assert_same(take(data_of(folder, prefetch=prefetch, **RANDOM), 20 - start, start), whole[start:])
    again = data_of(folder, prefetch=prefetch, **RANDOM)
    take(again, 5)
    assert_same(take(again, 3, 2), whole[2:5])  # pictures now come from memory


def test_processes_share_the_batches_of_one(folder):
    settings = RANDOM | {"batch_size": 2}
    whole = take(data_of(folder, **RANDOM), 14)
    data = data_of(folder, processes=2, **settings)
    assert data.batches_per_epoch == data_of(folder, **RANDOM).batches_per_epoch == 6
    halves = [take(data, 14, process=process) for process in range(2)]
    for batch, one, other in zip(whole, *halves, strict=True):
        assert batch.keys == one.keys + other.keys
        assert batch.captions == one.captions + other.captions
        assert batch.crops == one.crops + other.crops
        assert torch.equal(batch.pixels, torch.cat([one.pixels, other.pixels]))


def test_another_seed_is_another_training(folder):
    one, other = (take(data_of(folder, **(RANDOM | {"seed": seed})), 6) for seed in (7, 8))
    assert [b.keys for b in one] != [b.keys for b in other]


def test_another_seed_mirrors_other_visits(tmp_path):
    folder = pictures(tmp_path / "one", [(16, 16)])
    rows = [[b.pixels[0, 0, 0, 0].item() for b in take(data_of(folder, flip=True, seed=seed), 40)] for seed in range(2)]
    assert rows[0] != rows[1]
    assert len(set(rows[0])) == 2


def test_pixels_are_those_that_the_engine_would_make(folder):
    data = data_of(folder, size=(32, 32))
    exact = 0
    for batch in take(data, 18):
        record = next(r for r in data.records if r.key == batch.keys[0])
        height, width = batch.size
        assert batch.original_sizes == (record.size,)
        assert batch.pixels.dtype == torch.float32
        if record.size[0] * width == record.size[1] * height:  # nothing is cut off
            expected = image_to_tensor(record.read(), height, width, device="cpu", dtype=torch.float32)
            assert torch.equal(batch.pixels, expected)
            assert batch.crops == ((0, 0),)
            exact += 1
    assert exact == 9


def test_a_picture_is_resized_then_cut_in_the_middle(tmp_path):
    stripes = Image.new("RGB", (48, 16))
    for index, colour in enumerate(["red", "lime", "blue"]):
        stripes.paste(colour, (16 * index, 0, 16 * index + 16, 16))
    stripes.save(tmp_path / "a.png")
    (batch,) = take(data_of(Source(path=str(tmp_path), caption="x"), buckets=False), 1)
    assert batch.masks is None
    assert batch.controls is None
    assert batch.size == (16, 16)
    assert batch.crops == ((0, 16),)
    assert batch.pixels[0].flatten(1).T.unique(dim=0).tolist() == [[-1.0, 1.0, -1.0]]


def test_random_cuts_and_mirrors_are_told_as_sdxl_needs_them(tmp_path):
    values = np.zeros((16, 40, 3), np.uint8)
    values[:] = np.arange(40, dtype=np.uint8)[None, :, None]
    Image.fromarray(values).save(tmp_path / "a.png")
    data = data_of(Source(path=str(tmp_path), caption="x"), buckets=False, crop="random", flip=True)
    found = set()
    for batch in take(data, 300):
        row = ((batch.pixels[0, 0, 0] + 1) * 127.5).round().int().tolist()
        mirrored = row[0] > row[-1]
        assert sorted(row) == list(range(min(row), min(row) + 16))
        # In a mirrored picture, left is where the right was.
        assert batch.crops == ((0, 39 - max(row) if mirrored else min(row)),)
        found.add((mirrored, batch.crops[0][1]))
    assert len(found) == 50  # 25 places, both ways


def test_masks_follow_their_pictures_and_are_ones_elsewhere(folder):
    for batch in take(data_of(folder, size=(32, 32), flip=True), 40):
        assert batch.masks.shape == (1, 1, *batch.size)
        if batch.keys == ("003.png",):
            flipped = not torch.equal(
                batch.pixels, image_to_tensor(noise(3, 32, 32), 32, 32, device="cpu", dtype=torch.float32)
            )
            half = torch.zeros(32, 32)
            half[:, slice(0, 16) if flipped else slice(16, 32)] = 1
            assert torch.equal(batch.masks[0, 0], half)
        else:
            assert batch.masks.min() == 1


def test_weights_roles_and_repeats_of_sources(tmp_path):
    one, two = pictures(tmp_path / "one", [(16, 16)] * 2), pictures(tmp_path / "two", [(16, 16)] * 2)
    data = data_of(
        Source(path=str(one), repeats=3, weight=0.5, role="subject"), Source(path=str(two), role="class"), batch_size=2
    )
    assert data.batches_per_epoch == 4
    assert [record.key for record in data.records] == [
        f"{folder}/{name}" for folder in (one, two) for name in ("000.png", "001.png")
    ]
    seen = Counter(key for batch in take(data, 4) for key in batch.keys)
    assert [seen[record.key] for record in data.records] == [3, 3, 1, 1]
    for batch in take(data, 4):
        assert batch.weights.tolist() == [0.5 if role == "subject" else 1.0 for role in batch.roles]


def test_pictures_with_better_scores_come_more_often(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 4, score=[1, 2, 3, None])
    data = data_of(folder, score_power=2.0, batch_size=4)
    seen = Counter(key for batch in take(data, 1000) for key in batch.keys)
    weights = [1 / 9, 4 / 9, 1, 4 / 9]
    for record, weight in zip(data.records, weights, strict=True):
        assert seen[record.key] / 4000 == pytest.approx(weight / sum(weights), abs=0.03)
    assert_same(take(data, 2, 30), take(data_of(folder, score_power=2.0, batch_size=4), 32)[30:])


def test_a_broken_picture_is_told_once_and_replaced_as_if_it_had_always_been_known(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 6)
    break_body(folder / "002.png")
    said = []
    data = data_of(folder, batch_size=3, said=said)
    assert len(data.records) == 6
    assert data.skipped == ()
    whole = take(data, 8)
    assert [key for key, _ in data.skipped] == ["002.png"]
    assert len(said) == 1
    assert "002.png" in said[0]
    assert all("002.png" not in batch.keys for batch in whole)
    sound = take(data_of(pictures(tmp_path / "e", [(16, 16)] * 6), batch_size=3), 8)
    for mended, batch in zip(whole, sound, strict=True):
        assert [a == b or b == "002.png" for a, b in zip(mended.keys, batch.keys, strict=True)] == [True] * 3
    for start in range(8):
        assert_same(take(data_of(folder, batch_size=3), 8 - start, start), whole[start:])
    noise(2).save(folder / "002.png")  # repaired while the training runs: it stays out
    assert_same(take(data, 8), whole)
    assert len(said) == 1
    break_body(folder / "002.png")
    with pytest.raises(DataError, match=r"002\.png: .*truncated or damaged.*broken = 'skip'"):
        take(data_of(folder, batch_size=3, broken="error"), 2)


def test_a_whole_bucket_of_broken_pictures_ends_the_training(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 2)
    for name in ("000.png", "001.png"):
        break_body(folder / name)
    with pytest.raises(DataError, match="none of the pictures of 16x16 pixels can be read"):
        take(data_of(folder), 1)


def test_pictures_stay_in_memory_as_far_as_there_is_room(folder, monkeypatch):
    reads = []
    real = loading.read_arrays
    monkeypatch.setattr(loading, "read_arrays", lambda *a, **k: reads.append(1) or real(*a, **k))
    expected = take(data_of(folder, batch_size=4, prefetch=0), 12)
    assert len(reads) == 18
    reads.clear()
    monkeypatch.setattr(loading, "MEMORY", 3000)  # three pictures of 16x16, and a mask
    assert_same(take(data_of(folder, batch_size=4, prefetch=0), 12), expected)
    assert 18 * 2 < len(reads) <= 48


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "sdcore-train-data"]


def test_reading_ahead_ends_with_the_iterator():
    made = []

    def make(number):
        made.append(number)
        return number

    stream = read_ahead(make, 5, 2)
    assert not threads()  # nothing is read before the first batch is asked for
    assert list(islice(stream, 4)) == [5, 6, 7, 8]
    assert len(threads()) == 1
    stream.close()
    assert not threads()
    assert len(made) <= 4 + 2 + 1
    other = read_ahead(make, 0, 2)
    next(other)
    del other
    gc.collect()
    assert not threads()
    assert list(islice(read_ahead(make, 3, 0), 2)) == [3, 4]


def test_an_error_of_the_thread_is_raised_in_its_turn():
    def make(number):
        if number == 2:
            raise KeyError("at two")
        return number

    stream = read_ahead(make, 0, 4)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(KeyError, match="at two"):
        next(stream)
    assert not threads()


def test_a_stream_that_was_left_open_does_not_hold_up_or_break_the_end_of_python(folder):
    config = {"data": [{"path": str(folder)}], "batch_size": 16, "pictures": {"buckets": False, "prefetch": 64}}
    code = f"""
import json
from sdcore_train.config import TrainConfig
from sdcore_train.data import Data
data = Data(TrainConfig(**json.loads({json.dumps(config)!r})), size=(96, 96), multiple=8)
streams = [data.stream(start) for start in range(3)]
print(len([next(stream) for stream in streams]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_importing_the_package_imports_no_torch():
    code = "import sys, sdcore_train.data as data; data.Data, data.TextMemory; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def children():
    return [child for child in multiprocessing.active_children() if child.is_alive()]


def test_processes_give_what_the_thread_gives_and_end_with_the_stream(folder):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    whole = take(data_of(folder, **RANDOM), 12)
    for start, workers in ((0, 2), (5, 1)):
        assert_same(take(data_of(folder, workers=workers, **RANDOM), 12 - start, start), whole[start:])
    assert torch.equal(torch.get_rng_state(), before)
    assert not children()


def test_what_processes_find_broken_is_told_once(tmp_path):
    folder = pictures(tmp_path / "d", [(16, 16)] * 6)
    break_body(folder / "002.png")
    said = []
    data = data_of(folder, batch_size=3, said=said, workers=2)
    assert_same(take(data, 8), take(data_of(folder, batch_size=3), 8))
    assert [key for key, _ in data.skipped] == ["002.png"]
    assert len(said) == 1
    with pytest.raises(DataError, match=r"002\.png: .*truncated or damaged.*broken = 'skip'"):
        take(data_of(folder, batch_size=3, workers=2, broken="error"), 4)
    for path in folder.glob("*.png"):
        break_body(path)
    with pytest.raises(DataError, match=r"^none of the pictures of 16x16 pixels can be read"):
        take(data_of(folder, workers=2), 1)
    assert not children()


def test_processes_need_a_system_that_forks(folder, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(DataError, match="workers is 2, and this system cannot fork"):
        take(data_of(folder, workers=2), 1)
