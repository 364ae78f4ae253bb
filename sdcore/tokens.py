"""Text to token ids, and token ids to the windows that an encoder takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .errors import RequestError
from .words import PLACE

if TYPE_CHECKING:
    from torch import Tensor

MAX_WINDOWS = 64


@dataclass(frozen=True, eq=False)
class Place:
    """One of the places that a word of a plugin takes: its vector, the word, whether it is the word's last."""

    vector: Tensor
    word: str
    last: bool


def tokenise(tokenizer: Any, parts: Iterable[tuple[str, Tensor | None]], places: list[Place]) -> list[int]:
    """Token ids of a text that was cut at its words; ``-1 - n`` stands for ``places[n]``, which are added to."""
    ids: list[int] = []
    for text, vectors in parts:
        if vectors is None:
            ids += tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        else:
            ids += range(-1 - len(places), -1 - len(places) - len(vectors), -1)
            places += [Place(vector, text, at == len(vectors) - 1) for at, vector in enumerate(vectors)]
    return ids


def token_windows(
    tokenizer: Any, text: str, long_prompt: str
) -> tuple[list[tuple[list[int], list[int]]], tuple[str, ...]]:
    """Token ids and attention mask of every window, and the words that were cut off.

    A window is ``model_max_length`` long, begins with the start token and ends with the end token. With
    ``"chunk"`` a long text fills several windows, split between words; with ``"cut"`` only the first is kept.

    Raises:
        RequestError: the text would fill more than 64 windows.
    """
    return cut_into_windows(tokenizer, tokenise(tokenizer, [(text, None)], []), long_prompt, ())


def cut_into_windows(
    tokenizer: Any, ids: list[int], long_prompt: str, places: Sequence[Place]
) -> tuple[list[tuple[list[int], list[int]]], tuple[str, ...]]:
    """The same of token ids, among which negative ones stand for ``places``."""
    window: int = tokenizer.model_max_length
    room = window - 2
    lost: tuple[str, ...] = ()
    if len(ids) <= room:
        chunks = [ids]
    elif long_prompt == "cut":
        chunks, lost = [ids[:room]], _words_of(tokenizer, ids[room:], places)
    else:
        chunks = _split(tokenizer, ids, room, places)
        if len(chunks) > MAX_WINDOWS:
            raise RequestError(
                f"the prompt has {len(ids)} tokens, which fill {len(chunks)} windows of {room}; the limit is "
                f"{MAX_WINDOWS}; shorten it, or set long_prompt='cut'"
            )
    begin, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    windows = []
    for chunk in chunks:
        filled = [begin, *chunk, end]
        rest = window - len(filled)
        windows.append((filled + [pad] * rest, [1] * len(filled) + [0] * rest))
    return windows, lost


def _words_of(tokenizer: Any, ids: list[int], places: Sequence[Place]) -> tuple[str, ...]:
    found: list[str] = []
    for is_place, group in groupby(ids, key=lambda number: number < 0):
        if is_place:
            found += dict.fromkeys(places[-1 - number].word for number in group)
        else:
            found += tokenizer.decode(list(group)).split()
    return tuple(found)


def _split(tokenizer: Any, ids: list[int], room: int, places: Sequence[Place]) -> list[list[int]]:
    pieces = tokenizer.convert_ids_to_tokens([max(number, PLACE) for number in ids])
    whole = [
        places[-1 - number].last if number < 0 else piece.endswith("</w>")
        for number, piece in zip(ids, pieces, strict=True)
    ]
    chunks, start = [], 0
    while start < len(ids):
        end = min(start + room, len(ids))
        if end < len(ids):
            # Back to the end of a word, unless one word fills the window.
            end = next((at for at in range(end, start, -1) if whole[at - 1]), end)
        chunks.append(ids[start:end])
        start = end
    return chunks
