"""The check ``embedding``: prompts that mean something unsafe, in whatever words, by the model's own text encoder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from sdcore_safety.check import CheckSettings, PromptCheck

from .blocklist import parse_words
from .vectors import Anchors, to_score

CONCEPTS = Path(__file__).parent.parent / "data" / "concepts.txt"
BENIGN = "benign"
_CLAUSE = re.compile(r"[,.;:|\n()\[\]{}]+")
_WORDS = 40
"""Words of a piece: of the 77 tokens of a window two are its ends, and a word is seldom more than two."""


def read_concepts(path: Path = CONCEPTS) -> dict[str, list[str]]:
    """Category to phrases; :data:`BENIGN` are the anchors."""
    found: dict[str, list[str]] = {}
    for category, phrase in parse_words(path.read_text("utf-8"), path.name):
        found.setdefault(category, []).append(phrase)
    return found


def clauses(text: str) -> list[str]:
    """The text and its parts between commas, so that harmless words around it do not hide something.

    All of them, however many: what stood behind the last would not be looked at. Long ones are cut into overlapping
    pieces that fit into the encoder's window.
    """
    parts = [part.strip() for part in _CLAUSE.split(text)]
    return list(dict.fromkeys(piece for part in (text, *parts) for piece in _pieces(part.split())))


def _pieces(words: list[str]) -> list[str]:
    starts = range(0, max(len(words) - _WORDS // 2, 1), _WORDS // 2)
    return [" ".join(words[at : at + _WORDS]) for at in starts if words]


class EmbeddingCheck(PromptCheck):
    """Nearness to unsafe concepts relative to benign anchors.

    It knows what the text encoder knows: that of a small model has never read most words, and then finds nothing.
    """

    name = "embedding"
    version = "1"
    categories = ("sexual", "violence", "hate", "self-harm")

    def __init__(self, settings: CheckSettings) -> None:
        """Encode concepts and anchors.

        Raises:
            ValueError: there is no model.
        """
        super().__init__(settings)
        if settings.model is None:
            raise ValueError("it compares prompts with the text encoder of a model, and there is none here")
        from sdcore_safety.encoding import text_vectors

        self._model = settings.model
        named = read_concepts()
        vectors = {category: text_vectors(self._model, phrases) for category, phrases in named.items()}
        self._anchors = Anchors.build(vectors.pop(BENIGN), vectors)
        self._digest = hashlib.sha256(CONCEPTS.read_bytes()).hexdigest()

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the list of concepts and anchors; the encoder is the model's, whose hash the record has."""
        return self._digest

    def score(self, text: str) -> Mapping[str, float]:
        """The largest score over the text and its clauses."""
        from sdcore_safety.encoding import text_vectors

        pieces = clauses(text)
        if not pieces:  # an empty prompt, such as an img2img run may have, names nothing
            return dict.fromkeys(self.categories, 0.0)
        found = self._anchors.deviations(text_vectors(self._model, pieces))
        return {category: to_score(deviation) for category, deviation in found.items()}
