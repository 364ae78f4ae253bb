"""Encoded captions, kept in memory and on disk."""

import pytest
import torch
from sdcore_train.data import TextMemory
from sdcore_train.data import text_memory as module


class Encoder:
    def __init__(self):
        self.seen = []

    def __call__(self, captions):
        self.seen.append(list(captions))
        size = [len(caption) for caption in captions]
        return {
            "context": torch.stack([torch.full((3, 4), float(n)) for n in size]),
            "pooled": torch.tensor([[n * 2.0] for n in size]),
        }


KEY = {"text_encoder": "1"}
ROW = (12 + 1) * 4  # bytes


def check(found, captions):
    assert found["context"].tolist() == [[[float(len(c))] * 4] * 3 for c in captions]
    assert found["pooled"].tolist() == [[2.0 * len(c)] for c in captions]


def test_each_caption_is_encoded_once_and_alone():
    encoder = Encoder()
    memory = TextMemory(encoder, None, KEY, 1 << 20)
    for captions in (["a", "bb", "a", ""], ["bb", "ccc"], ["", "a"]):
        check(memory(captions), captions)
    assert encoder.seen == [["a"], ["bb"], [""], ["ccc"]]


def test_several_at_once_on_demand():
    encoder = Encoder()
    memory = TextMemory(encoder, None, KEY, 1 << 20, together=2)
    check(memory(["a", "bb", "a", "ccc"]), ["a", "bb", "a", "ccc"])
    assert encoder.seen == [["a", "bb"], ["ccc"]]


def test_memory_is_bounded_and_forgets_what_was_not_used_for_longest():
    encoder = Encoder()
    memory = TextMemory(encoder, None, KEY, 2 * ROW)
    memory(["a", "bb"])
    memory(["a"])
    memory(["ccc"])  # "bb" goes
    memory(["a"])
    assert len(encoder.seen) == 3
    memory(["bb"])
    assert len(encoder.seen) == 4
    check(memory(["a", "bb", "ccc", "dddd"]), ["a", "bb", "ccc", "dddd"])  # more than there is room for
    small = TextMemory(encoder, None, KEY, 0)
    check(small(["a", "a"]), ["a", "a"])


def test_rows_own_their_memory():
    memory = TextMemory(lambda c: {"x": torch.zeros(len(c), 5)}, None, KEY, 1 << 20, together=64)
    found = memory(["a", "b"])["x"]
    found += 1
    assert memory(["a"])["x"].max() == 0
    buffer = torch.zeros(1, 2)  # an encoder that always answers with the same memory
    reuses = TextMemory(lambda captions: {"x": buffer.fill_(len(captions[0]))}, None, KEY, 1 << 20)
    assert reuses(["a", "bb", "ccc"])["x"][:, 0].tolist() == [1, 2, 3]


def test_captions_are_found_on_disk_again(tmp_path):
    first, second = Encoder(), Encoder()
    memory = TextMemory(first, tmp_path, KEY, 1 << 20)
    memory(["a", "bb", "ünïcode"])
    assert not list(tmp_path.rglob("*.safetensors"))
    memory.flush()
    again = TextMemory(second, tmp_path, KEY, 1 << 20)
    check(again(["ünïcode", "a"]), ["ünïcode", "a"])
    assert second.seen == []
    check(again(["new", "a"]), ["new", "a"])
    assert second.seen == [["new"]]
    stale = Encoder()
    TextMemory(stale, tmp_path, {"text_encoder": "2"}, 1 << 20)(["a"])
    assert stale.seen == [["a"]]
    again.flush()
    again.flush()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_what_waits_is_written_in_time_and_used_before(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    encoder = Encoder()
    memory = TextMemory(encoder, tmp_path, KEY, 0)  # nothing stays in memory
    memory(["a", "bb"])
    check(memory(["bb"]), ["bb"])
    assert encoder.seen == [["a"], ["bb"]]
    memory(["ccc"])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    check(memory(["a", "ccc"]), ["a", "ccc"])
    assert len(encoder.seen) == 3
    monkeypatch.setattr(module, "WAITING", ROW)
    memory(["dddd"])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_rows_of_several_shapes_are_kept(tmp_path):
    def encode(captions):
        return {"context": torch.ones(1, len(captions[0]), 2)}

    memory = TextMemory(encode, tmp_path, KEY, 1 << 20)
    for caption in ("a", "bb", "cc"):
        memory([caption])
    memory.flush()
    again = TextMemory(pytest.fail, tmp_path, KEY, 1 << 20)
    assert again(["bb", "cc"])["context"].shape == (2, 2, 2)
    assert again(["a"])["context"].shape == (1, 1, 2)


def test_no_captions():
    assert TextMemory(Encoder(), None, KEY, 1)([]) == {}


def test_gradients_do_not_come_along():
    weight = torch.ones(1, requires_grad=True)
    found = TextMemory(lambda c: {"x": weight * torch.ones(len(c), 2)}, None, KEY, 1 << 20)(["a"])
    assert not found["x"].requires_grad
