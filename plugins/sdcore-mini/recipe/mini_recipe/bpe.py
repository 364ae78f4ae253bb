"""A byte-pair vocabulary in CLIP's layout, trained on weighted words."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"


def words_of(text: str) -> list[str]:
    """The words of a text as CLIP's tokenizer splits it, letters only."""
    return re.findall(r"[a-z]+", text.lower())


def weights(captions: Iterable[str], others: Iterable[str]) -> dict[str, int]:
    """How often each word counts in training.

    Words of captions count by the logarithm of their number, at least four times: the model learns them, so they
    should become one token. Words that occur in no caption count once: they shape the pieces into which unknown
    words are split, and should not become tokens of their own that the model would never have seen.
    """
    found = Counter(word for text in captions for word in words_of(text))
    result = {word: 3 + round(math.log2(1 + count)) for word, count in found.items()}
    for text in others:
        for word in words_of(text):
            result.setdefault(word, 1)
    return dict(sorted(result.items()))


def merges(counted: Mapping[str, int], number: int) -> list[tuple[str, str]]:
    """At most ``number`` merges learned from weighted words, best first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = sorted({letter for word in counted for letter in word})
    endings = sorted({f"{word[-1]}{SUFFIX}" for word in counted})
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + len(endings) + number,
        min_frequency=2,
        initial_alphabet=letters,
        # Named here, the endings get their numbers in this order. Left to be found in the words, they would get
        # them in the order of a hash table, which differs from run to run, and ties between merges go by number.
        special_tokens=endings,
        end_of_word_suffix=SUFFIX,
        show_progress=False,
    )

    def lines() -> Iterator[str]:
        for word, weight in counted.items():
            yield " ".join([word] * weight)

    tokenizer.train_from_iterator(lines(), trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(str(left), str(right)) for left, right in learned][:number]


def vocabulary(learned: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Token numbers in CLIP's order: bytes, bytes that end a word, merges, start, end."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + SUFFIX for letter in letters), *(left + right for left, right in learned)]
    return {token: number for number, token in enumerate(dict.fromkeys([*tokens, START, END]))}


def save(learned: list[tuple[str, str]], folder: Path, window: int) -> Any:
    """Write a folder that ``transformers.CLIPTokenizer`` loads, and return the tokenizer."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer(
        vocab=vocabulary(learned),
        merges=learned,
        model_max_length=window,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
    tokenizer("", padding="max_length", truncation=True, max_length=window)  # stored as the defaults of the file
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "name_or_path", "_name_or_path"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)
