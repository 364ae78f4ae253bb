"""The cache of latents: what it gives, when it is stale, and what happens when it is interrupted."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sdcore_train.config import Source
from sdcore_train.data import DataError, LatentCache
from sdcore_train.data import latents as latents_module

from sdcore import OutputError

from .kit import assert_same, break_body, data_of, noise, pictures, take

KEY = {"vae": "abc", "dtype": "float32"}


class Encoder:
    """Stands for a VAE: moments that show which pixels they were made of."""

    def __init__(self, fail_after=None):
        self.calls = []
        self.fail_after = fail_after

    def __call__(self, pixels):
        self.calls.append(len(pixels))
        if self.fail_after is not None and self.total > self.fail_after:
            raise KeyboardInterrupt
        small = torch.nn.functional.avg_pool2d(pixels, 4)
        return torch.cat([small, small.flip(1) * 2], 1)

    @property
    def total(self):
        return sum(self.calls)


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "data", [(32, 32)] * 7 + [(24, 40)] * 4)


def filled(folder, tmp_path, key=KEY, encoder=None, **settings):
    encoder = encoder or Encoder()
    settings = {"size": (32, 32), "batch_size": 2, "cache_folder": str(tmp_path / "cache"), **settings}
    data = data_of(folder, **settings)
    data.cache_latents(encoder, key, progress=False)
    return data, encoder


@pytest.mark.parametrize("cache", ["disk", "memory"])
@pytest.mark.parametrize("flip", [False, True])
def test_batches_have_what_the_encoder_makes_of_their_pixels(folder, tmp_path, cache, flip):
    data, encoder = filled(folder, tmp_path, cache=cache, flip=flip)
    assert encoder.total == 11 * (1 + flip)
    plain = take(data_of(folder, size=(32, 32), batch_size=2, flip=flip), 24)
    for cached, batch in zip(take(data, 24), plain, strict=True):
        assert cached.pixels is None
        assert torch.equal(cached.moments, Encoder()(batch.pixels))
        assert cached.moments.dtype == torch.float32
        for name in ("keys", "captions", "crops", "size", "original_sizes", "number"):
            assert getattr(cached, name) == getattr(batch, name)
    assert (tmp_path / "cache").exists() == (cache == "disk")


def test_a_filled_cache_is_used_by_the_next_training(folder, tmp_path):
    data, _ = filled(folder, tmp_path)
    again, encoder = filled(folder, tmp_path)
    assert encoder.calls == []
    assert_same(take(again, 12), take(data, 12))
    # Mirror images are what is missing now.
    _, encoder = filled(folder, tmp_path, flip=True)
    assert encoder.total == 11
    default = data_of(folder, size=(32, 32), output=str(tmp_path / "out"))
    default.cache_latents(Encoder(), KEY)
    assert list((tmp_path / "out/cache/latents").glob("*/*.safetensors"))


def test_only_what_is_stale_is_encoded_again(folder, tmp_path):
    filled(folder, tmp_path)
    changes = {
        "another VAE": lambda: filled(folder, tmp_path, key={**KEY, "vae": "other"}),
        "another size": lambda: filled(folder, tmp_path, size=(40, 40)),
        "no buckets": lambda: filled(folder, tmp_path, buckets=False),
    }
    assert {name: change()[1].total for name, change in changes.items()} == {
        "another VAE": 11,
        "another size": 11,
        "no buckets": 4,
    }
    noise(99, 32, 32).save(folder / "003.png")
    os.utime(folder / "003.png", ns=(1, time.time_ns() + 10**9))
    data, encoder = filled(folder, tmp_path)
    assert encoder.total == 1
    fresh = take(data_of(folder, size=(32, 32), batch_size=2), 6)
    for cached, batch in zip(take(data, 6), fresh, strict=True):
        assert torch.equal(cached.moments, Encoder()(batch.pixels))
    # Other captions, other seeds and other batches change nothing.
    assert filled(Source(path=str(folder), captions="name"), tmp_path, seed=9, batch_size=5)[1].calls == []


def test_two_sources_with_the_same_names_do_not_mix(folder, tmp_path):
    other = pictures(tmp_path / "other", [(32, 32)] * 2)
    for index in range(2):
        noise(50 + index, 32, 32).save(other / f"{index:03d}.png")
        state = (folder / f"{index:03d}.png").stat()
        os.utime(other / f"{index:03d}.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    filled(folder, tmp_path)
    assert filled(other, tmp_path)[1].total == 2
    data = data_of(folder, other, size=(32, 32), cache_folder=str(tmp_path / "cache"))
    encoder = Encoder()
    data.cache_latents(encoder, KEY, progress=False)
    assert encoder.calls == []  # keys have a prefix now, and the rows are found
    plain = take(data_of(folder, other, size=(32, 32)), 13)
    assert all(torch.equal(a.moments, Encoder()(b.pixels)) for a, b in zip(take(data, 13), plain, strict=True))


def test_an_interrupted_filling_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(latents_module, "ROWS", 3)
    with pytest.raises(KeyboardInterrupt):
        filled(folder, tmp_path, encoder=Encoder(fail_after=7))
    files = list((tmp_path / "cache/latents").rglob("*"))
    assert len([f for f in files if f.suffix == ".safetensors"]) == 3  # 3 + 3 + 1 of one size
    assert not [f for f in files if f.is_file() and f.suffix != ".safetensors"]
    data, encoder = filled(folder, tmp_path)
    assert encoder.total == 4
    monkeypatch.undo()
    whole, _ = filled(folder, tmp_path, cache="memory")
    assert_same(take(data, 12), take(whole, 12))


def test_files_are_cut_by_size_and_number_of_rows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(latents_module, "ROWS", 3)
    monkeypatch.setattr(latents_module, "PIXELS", 2 * 32 * 32)
    _, encoder = filled(folder, tmp_path)
    assert encoder.calls == [2, 1, 2, 1, 1, 2, 1, 1]
    found = {}
    for path in (tmp_path / "cache/latents").rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found.setdefault(path.name.split("-")[0], []).append(file.get_tensor("moments").shape[0])
    assert {size: sorted(rows) for size, rows in found.items()} == {"32x32": [1, 3, 3], "24x40": [1, 3]}


def test_damaged_files_are_made_again(folder, tmp_path):
    filled(folder, tmp_path)
    one, two = sorted((tmp_path / "cache/latents").rglob("*.safetensors"))
    one.write_bytes(one.read_bytes()[:-4])
    two.write_bytes(b"\xff" * 100)
    (one.parent / "strange.safetensors").write_bytes(b"")
    data, encoder = filled(folder, tmp_path)
    assert encoder.total == 11
    assert filled(folder, tmp_path)[1].calls == []
    take(data, 6)


def test_broken_pictures_are_left_out_of_the_cache_and_of_the_batches(folder, tmp_path):
    break_body(folder / "002.png")
    data, encoder = filled(folder, tmp_path)
    assert encoder.total == 10
    assert [key for key, _ in data.skipped] == ["002.png"]
    plain = take(data_of(folder, size=(32, 32), batch_size=2), 12)
    for cached, batch in zip(take(data, 12), plain, strict=True):
        assert cached.keys == batch.keys
        assert "002.png" not in cached.keys
    again, encoder = filled(folder, tmp_path)
    assert encoder.calls == []
    assert len(again.skipped) == 1
    with pytest.raises(DataError, match=r"002\.png: "):
        filled(folder, tmp_path, broken="error")


def test_masks_are_read_beside_the_latents_and_only_then(folder, tmp_path):
    (tmp_path / "masks").mkdir()
    noise(5, 32, 32).save(tmp_path / "masks/001.png")
    (tmp_path / "masks/002.png").write_bytes(b"broken")
    source = Source(path=str(folder), masks=str(tmp_path / "masks"))
    data, encoder = filled(source, tmp_path, flip=True)
    assert encoder.total == 22
    assert data.skipped == ()
    plain = data_of(source, size=(32, 32), batch_size=2, flip=True)
    for cached, batch in zip(take(data, 12), take(plain, 12), strict=True):
        assert cached.pixels is None
        assert torch.equal(cached.masks, batch.masks)
    assert [key for key, _ in data.skipped] == ["002.png"]


def test_several_processes_encode_their_parts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(latents_module, "ROWS", 2)
    settings = {"size": (32, 32), "cache_folder": str(tmp_path / "cache"), "processes": 2}
    first, second = data_of(folder, **settings), data_of(folder, **settings)
    one, two = Encoder(), Encoder()
    # Each waits for the other; here the second does its part while the first waits.
    first.cache_latents(one, KEY, False, process=0, wait=lambda: second.cache_latents(two, KEY, False, process=1))
    assert one.total + two.total == 11
    assert one.total in (5, 6)
    plain = data_of(folder, size=(32, 32), batch_size=2)
    for batch, half in zip(take(plain, 6), take(first, 6, process=0), strict=True):
        assert torch.equal(half.moments, Encoder()(batch.pixels)[:1])


def test_the_dtype_of_the_encoder_is_kept_on_disk(folder, tmp_path):
    data, _ = filled(folder, tmp_path, encoder=lambda pixels: Encoder()(pixels).bfloat16())
    path = next((tmp_path / "cache/latents").rglob("*.safetensors"))
    with safe_open(path, "pt") as file:
        assert file.get_tensor("moments").dtype == torch.bfloat16
    assert take(data, 1)[0].moments.dtype == torch.float32


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda p: torch.full((len(p), 8, 4, 4), float("nan")), r"NaN or infinite latents of 000\.png.*float32"),
        (lambda p: torch.zeros(len(p), 7, 4, 4), r"the encoder made \(7, 7, 4, 4\) of 7 pictures"),
        (lambda p: torch.zeros(1, 8, 4, 4), r"the encoder made \(1, 8, 4, 4\) of 7 pictures"),
    ],
)
def test_wrong_latents(folder, tmp_path, encode, message):
    with pytest.raises(DataError, match=message):
        filled(folder, tmp_path, encoder=encode)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_random_cuts_have_no_cache(folder, tmp_path):
    with pytest.raises(DataError, match="random crops cannot be cached"):
        filled(folder, tmp_path, crop="random")


def test_a_disk_without_room_is_told_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(latents_module, "PIXELS", 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    encoder = Encoder()
    with pytest.raises(OutputError, match=r"the cache of latents needs .* GB .*cache_folder"):
        filled(folder, tmp_path, encoder=encoder)
    assert encoder.calls == [1]


def test_a_folder_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cache"):
        filled(folder, tmp_path)


def test_a_cache_of_many_files_keeps_few_open(tmp_path, monkeypatch):
    monkeypatch.setattr("sdcore_train.data.shards.OPEN", 2)
    cache = LatentCache(KEY, tmp_path)
    rows = torch.arange(5 * 8 * 4.0).view(5, 8, 2, 2)
    for index in range(5):
        cache.add((8, 8), [f"row {index}"], rows[index : index + 1])
    again = LatentCache(KEY, tmp_path)
    assert len(again) == 5
    for index in (0, 3, 1, 4, 2, 0):
        assert torch.equal(again.get(f"row {index}"), rows[index])
        if sys.platform == "linux":
            assert Path("/proc/self/maps").read_text().count(str(tmp_path)) <= 2
    assert again.get("row 9") is None
