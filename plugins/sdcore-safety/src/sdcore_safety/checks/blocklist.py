"""The check ``blocklist``: words and phrases, whatever they are disguised as."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sdcore_safety.check import CheckSettings, PromptCheck

from .normalise import fold, singular, squeeze, token_readings

WORDS = Path(__file__).parent.parent / "data" / "words.txt"
MINOR, ALLOW = "minor", "allow"
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = re.compile(r"[a-z0-9]+")
_THREE = re.compile(r"(.)\1\1")


def parse_words(text: str, where: str) -> list[tuple[str, str]]:
    """(category, phrase) of every line of a word list.

    Raises:
        ValueError: a line is not ``category: phrase``; says which.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        category, colon, phrase = line.partition(":")
        category, phrase = category.strip(), phrase.strip()
        if not colon or not re.fullmatch(r"[a-z][a-z0-9-]*", category) or not phrase:
            raise ValueError(f"{where}, line {number} is {line[:80]!r}; write it as category: word or phrase")
        found.append((category, phrase))
    return found


@dataclass
class WordList:
    """A word list ready to be compared with.

    Attributes:
        phrases: tuple of singular words to the categories that it trips.
        hashes: SHA-256 of a singular word to its categories.
        allowed: phrases that are taken out first.
    """

    phrases: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    hashes: dict[str, set[str]] = field(default_factory=dict)
    allowed: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def read(cls, entries: Iterable[tuple[str, str]]) -> WordList:
        """From (category, phrase) pairs."""
        made = cls()
        for category, phrase in entries:
            if _HASH.fullmatch(phrase):
                made.hashes.setdefault(phrase.removeprefix("sha256:"), set()).add(category)
                continue
            words = tuple(singular(word) for word in _WORD.findall(fold(phrase)))
            if category == ALLOW:
                made.allowed.append(words)
            elif words:
                made.phrases.setdefault(words, set()).add(category)
        made.allowed.sort(key=len, reverse=True)
        return made

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.phrases), default=1)

    @cached_property
    def _squeezed(self) -> dict[tuple[str, ...], set[str]]:
        found: dict[tuple[str, ...], set[str]] = {}
        for words, categories in self.phrases.items():
            if len(words) == 1 and len(words[0]) >= 4:
                found.setdefault((squeeze(words[0]),), set()).update(categories)
        return found

    def find(self, text: str) -> dict[str, list[str]]:
        """Categories to what was found, as the list spells it; :data:`MINOR` among them."""
        tokens = self._without_allowed([tuple(map(singular, token)) for token in token_readings(text)])
        found: dict[str, list[str]] = {}
        for words, categories in self._matches(tokens):
            for category in categories:
                found.setdefault(category, []).append(words)
        return {category: sorted(set(words)) for category, words in found.items()}

    def _matches(self, tokens: list[tuple[str, ...]]) -> Iterator[tuple[str, set[str]]]:
        heads = {words[0] for words in self.phrases}
        for at, token in enumerate(tokens):
            for reading in token:
                if _THREE.search(reading) and (squeeze(reading),) in self._squeezed:
                    yield squeeze(reading), self._squeezed[(squeeze(reading),)]
                if self.hashes:
                    digest = hashlib.sha256(reading.encode()).hexdigest()
                    if digest in self.hashes:
                        yield f"sha256:{digest[:8]}", self.hashes[digest]
                if reading not in heads:
                    continue
                for length in range(1, self._longest + 1):
                    for words in _paths(tokens[at : at + length], reading, length):
                        if words in self.phrases:
                            yield " ".join(words), self.phrases[words]

    def _without_allowed(self, tokens: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        for words in self.allowed:
            at = 0
            while at + len(words) <= len(tokens):
                if all(word in tokens[at + place] for place, word in enumerate(words)):
                    tokens = [*tokens[:at], (), *tokens[at + len(words) :]]
                at += 1
        return tokens


def _paths(tokens: list[tuple[str, ...]], first: str, length: int) -> Iterator[tuple[str, ...]]:
    """Readings of consecutive tokens, beginning with this reading of the first."""
    if len(tokens) < length:
        return
    paths: list[tuple[str, ...]] = [(first,)]
    for token in tokens[1:]:
        paths = [(*path, word) for path in paths for word in token][:64]
    yield from paths


class BlocklistCheck(PromptCheck):
    """Words and phrases: 1 where one is found, else 0."""

    name = "blocklist"
    version = "1"
    categories = ("sexual", "suggestive", "minors", "violence", "hate", "self-harm")

    def __init__(self, settings: CheckSettings) -> None:
        """Read the built-in list, and the file ``path`` in the settings.

        Raises:
            OSError, ValueError: the file cannot be read, or a line of it is wrong.
        """
        super().__init__(settings)
        data = WORDS.read_bytes()
        entries = parse_words(data.decode("utf-8"), WORDS.name)
        digest = hashlib.sha256(data)
        path = settings.values.get("path")
        if path:
            own = Path(path).read_bytes()
            digest.update(own)
            entries += parse_words(own.decode("utf-8"), Path(path).name)
        self._list = WordList.read(entries)
        self._digest = digest.hexdigest()

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the word lists."""
        return self._digest

    def score(self, text: str) -> Mapping[str, float]:
        """1 for the categories of what is found; something sexual beside a word for a minor is ``minors`` too."""
        found = self._list.find(text)
        if MINOR in found and ("sexual" in found or "suggestive" in found):
            found["minors"] = found[MINOR]
        return {category: 1.0 for category in found if category != MINOR}
