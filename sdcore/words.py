"""Words of a run: what a prompt may contain that the text encoders do not know, each with embeddings of its own.

This is how textual inversion works (arXiv 2208.01618): a new word stands for one or several embedding vectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .calling import broke
from .errors import ConflictError
from .order import Stage
from .stages import Word

if TYPE_CHECKING:
    from torch import Tensor

PLACE = 0
"""The token id that stands where a vector goes; not that of the end token, which says where pooled text is taken."""


class Words:
    """The words that the plugins of a run contribute.

    Args:
        stages: of the port ``text.words``.
        encoders: the text encoders.

    Raises:
        ConflictError: two plugins, or one twice, give the same word.
        PluginError: a word is empty, or its vectors do not fit an encoder.
    """

    def __init__(self, stages: Sequence[Stage], encoders: Sequence[Any]) -> None:
        self._words: dict[str, Word] = {}
        owners: dict[str, Stage] = {}
        for stage in stages:
            word = stage.fn
            if not isinstance(word, Word):
                raise broke(stage, f"it contributed {type(word).__name__}, expected Word")
            key = word.text.lower()  # the tokenizers of CLIP know no capitals
            if not key.strip():
                raise broke(stage, "it contributed a word without a letter; give it a text such as '<cat>'")
            if key in owners:
                names = [f"{owner.plugin!r} ({owner.version})" for owner in (owners[key], stage)]
                raise ConflictError(
                    f"the word {word.text!r} is given by {' and by '.join(names)}; leave one of them out"
                )
            _check(stage, word, encoders)
            self._words[key], owners[key] = word, stage
        # The longest first: of "<cat>" and "<cat>-toy" the latter is meant where it stands.
        self._pattern = re.compile(
            "|".join(map(_exactly, sorted(self._words, key=len, reverse=True))), re.IGNORECASE
        ) if self._words else None  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self._words)

    def parts(self, text: str, encoder: int) -> Iterator[tuple[str, Tensor | None]]:
        """A text cut at its words: (text, None) for what is tokenised, (word, vectors) for a word."""
        start = 0
        for found in self._pattern.finditer(text) if self._pattern is not None else ():
            vectors = self._words[found.group().lower()].vectors[encoder]
            if vectors is None:
                continue
            yield text[start : found.start()], None
            yield found.group(), vectors
            start = found.end()
        yield text[start:], None


def _exactly(word: str) -> str:
    """A pattern that does not find "cat" in "category"."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return f"{before}{re.escape(word)}{after}"


def _check(stage: Stage, word: Word, encoders: Sequence[Any]) -> None:
    if len(word.vectors) != len(encoders):
        raise broke(
            stage,
            f"the word {word.text!r} has vectors for {len(word.vectors)} text encoders, and this model has "
            f"{len(encoders)}; give one tensor, or None, for each",
        )
    for vectors, encoder in zip(word.vectors, encoders, strict=True):
        if vectors is None:
            continue
        width = encoder.get_input_embeddings().weight.shape[1]
        if vectors.ndim != 2 or vectors.shape[1] != width or not len(vectors):
            raise broke(
                stage,
                f"the vectors of the word {word.text!r} are {tuple(vectors.shape)}, and this text encoder needs "
                f"(places, {width})",
            )
        if not bool(vectors.isfinite().all()):
            raise broke(stage, f"the vectors of the word {word.text!r} hold NaN or infinity; the file is damaged")
