"""What a user writes to train a new word."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from sdcore import Options

from .subjects import TOKEN, Texts

TEMPLATES = {
    "object": (
        *(
            "a photo of a [token]",
            "a close-up photo of a [token]",
            "a bright photo of a [token]",
            "a picture of a [token]",
        ),
        *(
            "a rendering of a [token]",
            "a cropped photo of the [token]",
            "a photo of the [token]",
            "a photo of one [token]",
        ),
        *(
            "a good photo of a [token]",
            "a dark photo of the [token]",
            "a depiction of a [token]",
            "an image of a [token]",
        ),
    ),
    "style": (
        *(
            "a painting in the style of [token]",
            "a picture in the style of [token]",
            "a drawing in the style of [token]",
        ),
        *("a rendering in the style of [token]", "a photo in the style of [token]", "art in the style of [token]"),
        *("a small painting in the style of [token]", "a bright picture in the style of [token]"),
    ),
}
"""Captions of pictures that have none, after arXiv 2208.01618, section 4."""


class LearnWord(Options):
    """Textual inversion (arXiv 2208.01618): a new word, one or several vectors for each text encoder."""

    word: str = Field(description="the new word, such as '<my-cat>'; [token] in captions stands for it")
    path: str | None = Field(default=None, description="folder of pictures; or give `data`")
    initial: str | None = Field(
        default=None,
        description="the words that it begins as, such as 'cat'; None draws vectors like those of the vocabulary",
    )
    vectors: int = Field(
        default=1, ge=1, le=64, description="vectors; more hold more, and take as many places of the prompt"
    )
    kind: Literal["object", "style"] = Field(default="object", description="which captions pictures get that have none")
    prompts: Texts = Field(default=(), description="captions of pictures that have none, instead; with [token]")
    layouts: tuple[Literal["a1111", "diffusers"], ...] = Field(
        default=("a1111", "diffusers"), min_length=1, description="whose files are written; ComfyUI reads both"
    )

    @field_validator("word")
    @classmethod
    def _one_word(cls, value: str) -> str:
        value = value.strip()
        if not value or any(letter.isspace() or letter in "[]" for letter in value):
            raise ValueError(f"word is {value!r}; it must be one word, such as '<my-cat>', without spaces and brackets")
        return value

    @field_validator("initial")
    @classmethod
    def _some_word(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("initial is empty; name a word such as 'cat', or leave it out")
        return value

    @field_validator("prompts")
    @classmethod
    def _with_token(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in value:
            if TOKEN not in prompt:
                raise ValueError(f"the prompt {prompt!r} has no [token], so the word would not be in it")
        return value

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions of pictures that have none."""
        return self.prompts or TEMPLATES[self.kind]
