"""The prompts of the evaluation, in the words of the embedded model's captions."""

from __future__ import annotations

from collections.abc import Sequence

from .renders import TRAINED_ON


def template(style: str, colour: str) -> str:
    """A prompt about a subject, with the placeholders of DreamBooth."""
    return f"an icon of a [token] [class], {style} style, {colour} background"


def class_template(style: str, colour: str) -> str:
    """The same about its class."""
    return f"an icon of a [class], {style} style, {colour} background"


def trained_class_prompts(styles: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    """Of the class pictures: all styles, and colours of all kinds."""
    return tuple(class_template(styles[i % len(styles)], colours[i]) for i in range(0, len(colours), 2))


def drift_class_prompts(styles: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    """Of the pictures whose drift is measured: other colours."""
    return tuple(class_template(styles[i % len(styles)], colours[i]) for i in range(1, len(colours), 2))


def captions_of(style: str, colour: str) -> list[str]:
    """Captions of one of a subject's pictures."""
    return [
        template(style, colour),
        f"a [token] [class], {style} style, {colour} background",
        f"[token] [class], {colour} background",
    ]


def new_colours(visible: Sequence[str]) -> list[str]:
    """Backgrounds on which the subject was not seen."""
    return [colour for colour in visible if colour not in TRAINED_ON]
