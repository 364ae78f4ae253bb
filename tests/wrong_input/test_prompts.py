"""Prompts that are empty, enormous, or hold what is no text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sdcore import Engine, RequestError
from sdcore.events import Warned

Refused = Callable[..., str]
SMALL = {"seed": 1, "steps": 1, "height": 16, "width": 16}


@pytest.mark.parametrize(
    "prompt",
    [
        *("", " ", "\n\t\r", "\N{RED APPLE}", "\N{MAN}\u200d\N{PERSONAL COMPUTER}", "e\u0301", "\u7ea2\u82f9\u679c"),
        *("a\u202eb", "\ufffe", "<|endoftext|>", "<|startoftext|> a", "%s {} \\0", "'; drop table", "a" * 500),
    ],
)
def test_strange_text_works(engine: Engine, prompt: str, unharmed: Callable[[], None]) -> None:
    result = engine.generate(prompt, negative_prompt=prompt, **SMALL)
    assert result.request.prompt == prompt
    assert result.image.size == (16, 16)
    unharmed()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\x00", ["control character U+0000", "position 0"]),
        ("a red\x1b[31m apple", ["U+001B", "position 5"]),
        ("apple\x7f", ["U+007F", "position 5"]),
        ("a\x85b", ["U+0085", "position 1"]),
        ("ab\ud83c", ["surrogate", "U+D83C", "position 2"]),
        ("\udf4e\ud83c", ["surrogate", "U+DF4E", "position 0"]),
    ],
)
def test_what_is_no_text(refused: Refused, field: str, text: str, words: list[str]) -> None:
    message = refused(RequestError, field, "remove it", *words, **{field: text})
    assert message.isprintable()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_100_kb_are_refused_before_anything_is_encoded(refused: Refused, field: str) -> None:
    fields = {"prompt": f"not encoded before the {field}", field: "red apple " * 10_000}
    refused(RequestError, "windows of 75", "limit is 64", "long_prompt='cut'", **fields)


def test_100_kb_are_cut_on_request(engine: Engine, unharmed: Callable[[], None]) -> None:
    events: list[object] = []
    result = engine.generate("red apple " * 10_000, long_prompt="cut", on_event=events.append, **SMALL)
    assert set(result.lost_tokens) == {"red", "apple"}
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "too long" in warning.message
    unharmed()


def test_a_page_of_text_is_chunked(engine: Engine, unharmed: Callable[[], None]) -> None:
    result = engine.generate("red apple " * 1_000, **SMALL)
    assert result.lost_tokens == ()
    unharmed()


def test_more_than_the_limit_of_characters(refused: Refused) -> None:
    refused(RequestError, "prompt", "200000 characters", prompt="a" * 200_001)
