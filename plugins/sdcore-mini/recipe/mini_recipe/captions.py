"""Captions in plain English for icons and for pairs of icons."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from mini_recipe.concepts import Concept

#: A keyword that more concepts than this have in common is too wide to stand for one of them.
SHARED_AT_MOST = 5

#: Words that take no article, and words that end in s and are no plurals; in words.json beside this file.
_WORDS = json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8"))
UNCOUNTED = frozenset(_WORDS["uncounted"])
SINGULAR_WITH_S = frozenset(_WORDS["singular with s"])
NO_NOUNS = frozenset(_WORDS["no nouns"])
SOUNDS_LIKE_YOU = re.compile(r"^(uni(?!n)|use|usu|euro|ewe|one|u-)")
SOUNDS_LIKE_VOWEL = re.compile(r"^([aeiou]|hour|honest|heir|x-ray|sos|mri|8\b)")
#: A noun phrase ends before the first of these words: in "man in tuxedo", "man" decides the article.
AFTER_THE_HEAD = re.compile(
    r"\b(with|of|in|on|without|and|from|behind|under|at|for|to|pointed|pointing|screaming|showing)\b.*"
)


def with_article(name: str) -> str:
    """The name with "a" or "an", or bare when it is a plural, a mass noun or has an article."""
    name = name.strip()
    if re.match(r"^(a|an|the|some|my|no)\b", name):
        return name
    head = AFTER_THE_HEAD.sub("", name).strip() or name
    last = head.split()[-1] if head.split() else head
    plural = last.endswith("s") and not last.endswith(("ss", "us")) and last not in SINGULAR_WITH_S
    if last in UNCOUNTED or (plural and "'s" not in last):
        return name
    return f"an {name}" if SOUNDS_LIKE_VOWEL.match(name) and not SOUNDS_LIKE_YOU.match(name) else f"a {name}"


def synonyms(concepts: Sequence[Concept]) -> dict[str, tuple[str, ...]]:
    """Keywords that can stand in the place of a concept's name.

    A keyword can when few concepts share it, it is no name of another concept, and it is a noun by its form as
    far as that can be told.
    """
    shared = Counter(word for concept in concepts for word in concept.keywords)
    names = {concept.name for concept in concepts}
    return {
        concept.name: tuple(
            word
            for word in concept.keywords
            if shared[word] <= SHARED_AT_MOST and word not in names and len(word) > 2 and is_nounlike(word)
        )
        for concept in concepts
    }


def is_nounlike(word: str) -> bool:
    """False for words that are verbs, adjectives or exclamations, as far as a list and their form tell."""
    return word not in NO_NOUNS and not re.search(
        r"(ing|ed|ly|ful|ous|able|ish|est)$|^(not|omg|lol|haha|wow|ugh|yay|yes|oh|i|im|i'm)\b|'", word
    )


def full(name: str, style: str, colour: str) -> str:
    """The full form of a prompt, as the evaluation asks for it."""
    return f"an icon of {with_article(name)}, {style} style, {colour} background"


def icon_captions(concept: Concept, words: Sequence[str], style: str, colour: str, random: Random) -> list[str]:
    """Between six and eight captions of one picture; the first is the full form.

    Args:
        concept: what is drawn.
        words: its synonyms.
        style: how it is drawn.
        colour: name of the background.
        random: decides which variants.
    """
    name = concept.name
    thing = with_article(name)
    back = random.choice((f"{colour} background", f"on a {colour} background", f"on {colour}"))
    found = [full(name, style, colour), f"{thing}, {style} style, {colour} background"]
    found.append(
        random.choice(
            (
                f"{name}, {style}, {colour} background",
                f"{style} style icon of {thing}, {back}",
                f"{colour} background, {thing}, {style} style",
                f"{with_article(f'{style} icon')} of {thing}, {back}",
                f"{thing} in {style} style {back if back.startswith('on') else f'on {colour}'}",
            )
        )
    )
    found.append(
        random.choice((f"{thing}, {style} style", f"an icon of {thing}, {style} style", f"{name}, {style} style"))
    )
    found.append(random.choice((f"{thing}, {colour} background", f"an icon of {thing}, {colour} background", thing)))
    if concept.keywords:
        tags = random.sample(concept.keywords, min(2, len(concept.keywords)))
        found.append(f"{name}, {', '.join(tags)}, {style} style, {colour} background")
    if words:
        word = random.choice(words)
        found.append(full(word, style, colour))
        other = random.choice(words)
        found.append(
            random.choice(
                (f"{with_article(other)}, {style} style, {colour} background", f"{other} icon, {style} style")
            )
        )
    return list(dict.fromkeys(found))


def pair_captions(first: str, second: str, stacked: bool, style: str, colour: str, random: Random) -> list[str]:
    """Between five and seven captions of two icons.

    Args:
        first: name of the left or upper one.
        second: name of the right or lower one.
        stacked: whether one is above the other.
        style: how both are drawn.
        colour: name of the background.
        random: decides which variants.
    """
    a, b = with_article(first), with_article(second)
    there, back = ("above", "below") if stacked else ("left of", "right of")
    longer = random.choice(("on top of", "over") if stacked else ("to the left of", "on the left of"))
    reverse = random.choice(("under", "beneath") if stacked else ("to the right of", "on the right of"))
    tail = f"{style} style, {colour} background"
    either = [a, b] if random.random() < 0.5 else [b, a]
    found = [
        f"{a} {there} {b}, {tail}",
        f"{b} {back} {a}, {tail}",
        f"an icon of {a} {random.choice((there, longer))} {b}, {tail}",
        f"{random.choice((f'{a} {longer} {b}', f'{b} {reverse} {a}'))}, {style} style",
        f"{' and '.join(either)}, {tail}",
        f"{a} {there} {b}",
    ]
    if not stacked:
        found.append(f"{either[0]} next to {either[1]}, {colour} background")
    return list(dict.fromkeys(found))
