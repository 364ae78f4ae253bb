"""Text as a block list compares it: letters without their disguises. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import product

_HOMOGLYPHS = {
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ё": "e", "һ": "h", "і": "i", "ї": "i", "ј": "j", "к": "k",
    "ӏ": "l", "м": "m", "н": "h", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s", "т": "t", "у": "y", "ѵ": "v",
    "ԝ": "w", "х": "x", "α": "a", "β": "b", "ε": "e", "η": "n", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p",
    "σ": "o", "τ": "t", "υ": "u", "χ": "x", "γ": "y", "ω": "w", "ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h",
    "ŧ": "t", "ß": "ss", "æ": "ae", "œ": "oe", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ɪ": "i", "ʀ": "r", "ᴀ": "a", "ʙ": "b",
    "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ɢ": "g", "ʜ": "h", "ᴊ": "j", "ᴋ": "k", "ʟ": "l", "ᴍ": "m", "ɴ": "n", "ᴏ": "o",
    "ᴘ": "p", "ᴛ": "t", "ᴜ": "u", "ᴠ": "v", "ᴡ": "w", "ʏ": "y", "ᴢ": "z", "օ": "o", "ս": "u", "ո": "n", "հ": "h",
}  # fmt: skip
"""Letters of other alphabets that look like Latin ones, after case folding (from Unicode's confusables)."""

_LEET = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s",
    "!": "i", "|": "il", "+": "t", "€": "e", "£": "l", "¢": "c", "*": "aeiou",
}  # fmt: skip
_SIGNS = re.escape("".join(sign for sign in _LEET if not sign.isdigit()))
_TOKEN = re.compile(rf"[a-z0-9{_SIGNS}]+")
_WORD = re.compile(r"[a-z0-9]+")
_SPACED = re.compile(r"(?<![a-z0-9])(?:[a-z0-9][\s._\-*/\\|,+~]+){2,}[a-z0-9](?![a-z0-9])")
_HYPHENED = re.compile(r"[a-z0-9]+(?:[._\-*·]+[a-z0-9]+)+")
_MOST_READINGS = 32
_MOST_SPACED = 40


def fold(text: str) -> str:
    """Lower-case Latin letters: compatibility forms, marks, invisible characters and look-alikes resolved."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKD", text)
    kept = (c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc") or c in "\n\t")
    return "".join(_HOMOGLYPHS.get(c, c) for c in kept)


def squeeze(word: str) -> str:
    """A word with every run of one letter cut to one: ``looong`` and ``long`` are the same."""
    return re.sub(r"(.)\1+", r"\1", word)


def readings(token: str) -> Iterator[str]:
    """What a token may stand for: itself, and with digits and signs read as the letters that they look like.

    A number stays a number: at least one letter must be there.
    """
    plain = "".join(_WORD.findall(token))
    yield plain
    if not any(c.isalpha() for c in token) or (plain.isalpha() and plain == token):
        return
    options = [_LEET.get(c, c) for c in token]
    for count, letters in enumerate(product(*options)):
        if count >= _MOST_READINGS:
            return
        yield "".join(letters)


def token_readings(text: str) -> list[tuple[str, ...]]:
    """Every token of a text with all that it may stand for.

    Behind the text's own tokens stand those that appear when spaced letters (``n u d e``) and hyphens within words
    are joined, each between empty ones, so that no phrase goes from one spelling to the other.
    """
    folded = fold(text)
    found = [tuple(dict.fromkeys(readings(token))) for token in _TOKEN.findall(folded)]
    hidden: list[str] = []
    for match in _SPACED.finditer(folded):
        hidden += _parts("".join(_WORD.findall(match[0])))
    hidden += ["".join(_WORD.findall(match[0])) for match in _HYPHENED.finditer(folded)]
    for token in dict.fromkeys(hidden):
        found += [(), tuple(dict.fromkeys(readings(token)))]
    return found


def _parts(letters: str) -> list[str]:
    """All parts of at least four of spaced letters: where a word begins among them is not known."""
    letters = letters[:_MOST_SPACED]
    ends = range(len(letters) + 1)
    return [letters[a:b] for a in ends for b in ends if b - a >= 4] or [letters]


def singular(word: str) -> str:
    """A word without the ending of a plural, roughly; the same for both sides of a comparison."""
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if len(word) > len(ending) + 2 and word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            return word[: -len(ending)] + rest
    return word
