"""What a model's tokenizers make of an identifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KNOWN, SMALL = 0.9, 20_000
"""Large byte-pair vocabularies are in the order of frequency, so that a word beyond this share of them is rare ("sks":
0.97 of CLIP's); all words of a small vocabulary are common."""


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, without start and end."""
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def is_known(tokenizer: Any, word: str) -> bool:
    """Whether a word is a single token, and not among the rarest: one that the model has met often."""
    ids = ids_of(tokenizer, word)
    return len(ids) == 1 and (len(tokenizer) < SMALL or ids[0] < KNOWN * len(tokenizer))


def token_warnings(tokenizers: Sequence[Any], token: str) -> list[str]:
    """What is doubtful about an identifier."""
    if any(is_known(tokenizer, token) for tokenizer in tokenizers):
        return [
            f"the token {token!r} is a word that the model knows: what it means to it will mix with the subject; a "
            "rare one such as 'sks' or 'ohwx' is better"
        ]
    return []
