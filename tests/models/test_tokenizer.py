from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdcore.models.folder import read_tokenizer
from sdcore.models.tokenizer import CLIP_VOCABULARY, _vocabulary, clip_tokenizer

# What the tokenizer of openai/clip-vit-large-patch14 gives.
KNOWN = {
    "": [],
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A  Photo of\na CAT": [320, 1125, 539, 320, 2368],
    "hello world!": [3306, 1002, 256],
    "it's 3": [585, 568, 274],
}


@pytest.mark.parametrize("prompt", KNOWN)
def test_ids_of_clip(prompt: str) -> None:
    assert clip_tokenizer()(prompt).input_ids == [49406, *KNOWN[prompt], 49407]
    assert len(clip_tokenizer()) == CLIP_VOCABULARY


def test_any_text_becomes_known_tokens_and_comes_back() -> None:
    tokenizer = clip_tokenizer()
    for text in ("naïve café", "日本 😀", "\x00\x07 tab\there", "a" * 500):
        ids = tokenizer(text).input_ids
        assert max(ids) < CLIP_VOCABULARY
        shown = tokenizer.decode(ids, skip_special_tokens=True)
        assert shown.replace(" ", "") == "".join(text.split()).lower()


@pytest.mark.parametrize(("pad", "expected"), [("<|endoftext|>", 49407), ("!", 0)])
def test_window_and_padding(pad: str, expected: int) -> None:
    tokenizer = clip_tokenizer(10, pad)
    assert tokenizer("a cat", padding="max_length").input_ids == [49406, 320, 2368, 49407] + [expected] * 6
    assert len(tokenizer("cat " * 50, truncation=True).input_ids) == 10


@pytest.mark.parametrize(("pad", "expected"), [("<|endoftext|>", 49407), ("!", 0)])
def test_the_files_of_published_folders(pad: str, expected: int, tmp_path: Path) -> None:
    """vocab.json and merges.txt, as transformers wrote them for years; SD2 names its pad token in the map only."""
    vocab, merges = _vocabulary()
    end = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    start = end | {"content": "<|startoftext|>"}
    tokens = {"bos_token": start, "eos_token": end, "unk_token": end}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(tokens | {"pad_token": pad}))
    config = {name: token | {"__type": "AddedToken"} for name, token in tokens.items()}
    config |= {"pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = read_tokenizer(tmp_path)
    ids = [49406, 320, 1125, 539, 320, 2368, 49407] + [expected] * 70
    assert tokenizer("a photo of a cat", padding="max_length").input_ids == ids
