"""The tokenizer of CLIP, built from the vocabulary in this package.

Single-file checkpoints carry weights only, and every published Stable Diffusion text encoder uses this one
vocabulary of 49,408 tokens, so that none of them needs a hub.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources
from typing import Any

CLIP_VOCABULARY = 49408


def byte_alphabet() -> list[str]:
    """The 256 visible characters that stand for bytes in byte-level BPE, in the order of CLIP's ids.

    Printable bytes stand for themselves; the others are moved past U+00FF (GPT-2's table).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [chr(256 + i) for i in range(256 - len(printable))]
    return [chr(byte) for byte in printable] + moved


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    data = resources.files("sdcore.models").joinpath("data/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    letters = byte_alphabet()
    count = CLIP_VOCABULARY - 2 * len(letters) - 2
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : count + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}, merges


def clip_tokenizer(positions: int = 77, pad_token: str = "<|endoftext|>") -> Any:
    """A `CLIPTokenizer` with the vocabulary of CLIP.

    Args:
        positions: the window of the text encoder, start and end tokens included.
        pad_token: "<|endoftext|>" for OpenAI's encoder (SD1, the first of SDXL), "!" (id 0) for OpenCLIP's.
    """
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    vocab, merges = _vocabulary()
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad_token, model_max_length=positions)
