"""Which emoji are concepts of the embedded model, by rules on their names and groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: emojibase's subgroups that are left out whole.
LEFT_OUT_SUBGROUPS = frozenset(
    {
        # people and body parts that come in skin tones, and pictures of them
        *("hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"),
        *("hand-prop", "person", "person-gesture", "person-role", "person-activity", "person-sport"),
        *("person-resting", "family", "person-symbol", "skin-tone", "hair-style"),
        # letters, digits, flags
        *("alphanum", "keycap", "flag", "country-flag", "subdivision-flag"),
    }
)

#: Single names that are left out, with the reason.
LEFT_OUT = {
    # letters and digits, which 64 pixels cannot carry
    **dict.fromkeys(
        (
            *("back arrow", "end arrow", "on! arrow", "soon arrow", "top arrow", "atm sign", "water closet"),
            *("copyright", "registered", "trade mark", "no one under eighteen", "hundred points", "e-mail"),
            *("1st place medal", "2nd place medal", "3rd place medal", "name badge", "tokyo tower"),
        ),
        "letters or digits",
    ),
    # the same sign in another size or thickness
    **dict.fromkeys(
        (
            *("white medium square", "white medium-small square", "white small square", "black medium square"),
            *("black medium-small square", "black small square", "small orange diamond", "small blue diamond"),
            *("heavy dollar sign", "radio button", "double curly loop", "sparkle"),
        ),
        "differs from another only in size",
    ),
    "smiling face with tear": "differs from others by a few pixels",
}

#: Half hours and every hour but three: a hand of the clock is two pixels wide.
CLOCKS_KEPT = frozenset({"three o'clock", "six o'clock", "nine o'clock"})


@dataclass(frozen=True)
class Concept:
    """One thing that the model can draw: its name in lower case, its code point, and other words for it."""

    name: str
    hexcode: str
    subgroup: str
    keywords: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name as icon packages write it."""
        return slug(self.name)


def slug(name: str) -> str:
    """A name in the form of the icon packages: ``woman’s hat`` is ``womans-hat``."""
    text = name.lower().replace("’", "").replace("'", "").replace("ñ", "n")
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def plain(text: str) -> str:
    """Lower case, straight apostrophes and quotes, single spaces."""
    text = text.lower().replace("’", "'").replace("“", "").replace("”", "").replace("ñ", "n")
    return re.sub(r"\s+", " ", text).strip()


def reason_left_out(entry: Mapping[str, Any], subgroup: str | None) -> str | None:
    """Why an entry of emojibase is no concept, or None when it is one."""
    name = plain(entry["label"])
    if subgroup is None:
        return "no group"
    if "skins" in entry:
        return "comes in skin tones"
    if subgroup in LEFT_OUT_SUBGROUPS:
        return f"group {subgroup}"
    if re.search(r"-thirty$|o'clock$", name) and name not in CLOCKS_KEPT:
        return "clock face"
    if name.startswith("flag") or ": " in name:
        return "flag or variant"
    return LEFT_OUT.get(name)


def concepts(
    entries: Iterable[Mapping[str, Any]],
    subgroups: Mapping[str, str],
    annotations: Mapping[str, Mapping[str, list[str]]],
    held_out: Iterable[str] = (),
) -> list[Concept]:
    """The concepts in the order of emojibase, without those held out.

    Args:
        entries: ``en/data.json`` of emojibase.
        subgroups: number of a subgroup to its name, from ``meta/groups.json``.
        annotations: CLDR's English annotations by emoji.
        held_out: names that must not occur, neither as a concept nor in a keyword.
    """
    held = {plain(name) for name in held_out}
    kept = []
    for entry in sorted(entries, key=lambda entry: (entry.get("order", 10**6), entry["hexcode"])):
        group = subgroups.get(str(entry.get("subgroup")))
        name = plain(entry["label"])
        if name in held or reason_left_out(entry, group) is not None or group is None:
            continue
        words = [plain(word) for word in entry.get("tags", ())]
        notes = annotations.get(entry["emoji"]) or annotations.get(entry["emoji"].replace("\ufe0f", "")) or {}
        words += [plain(word) for word in (*notes.get("tts", ()), *notes.get("default", ()))]
        keywords = tuple(
            word
            for word in dict.fromkeys(words)
            if word != name and re.fullmatch(r"[a-z][a-z' -]*", word) and not mentions(word, held)
        )
        kept.append(Concept(name, entry["hexcode"], group, keywords))
    return kept


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether one of the names, or its plural, stands in the text as whole words."""
    words = f" {re.sub(r'[^a-z0-9]+', ' ', text.lower())} "
    for name in names:
        wanted = re.sub(r"[^a-z0-9]+", " ", name.lower())
        if f" {wanted} " in words or f" {wanted}s " in words:
            return True
    return False
